//! A value function that passes messages between agents, and may remember: attention over agents, or a recurrent network on
//! the graph of who hears whom (after GA-MATR, arXiv:2401.17880; the form is ours).
//!
//! Node i is agent i, with input x_i; i hears j where the graph has an edge, which may carry numbers ε_ij. Each step of time
//!
//! ```text
//! e_i = tanh(W_e x_i + b)                                   what is seen
//! α_ij = softmax over the j that i hears of (W_q h_i)·(W_k h_j)/√d     each of several heads
//! m_i = Σ_j α_ij (W_m h_j + W_ε ε_ij)                       what is heard of what the others remember
//! h_i ← GRU([m_i, e_i], h_i)                                what is remembered
//! β_ij = the same attention, with the new h
//! V_i = w·tanh(W_o [h_i, Σ_j β_ij W_v h_j] + b_o) + b_v
//! ```
//!
//! Weights are shared by all agents. Memories begin an episode at zero. Without recurrence h_i = e_i before the unit, so that V
//! is a function of the present alone; without attention α and β are equal weights. Derivatives go back through all steps of
//! a rollout, whose first memories are data.

use steadfast_envs::Rng;
use steadfast_envs::{State, StateError};

use super::gru::{Gru, Room, Step};
use super::kernels::{self, Sizes, Start};
use super::loss::{Dual, ValueLoss};
use super::mlp::orthogonal;

/// Shape of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Agents, n.
    pub agents: usize,
    /// Length of x_i.
    pub node_len: usize,
    /// Length of ε_ij.
    pub edge_len: usize,
    /// Length W of e_i, m_i and h_i.
    pub width: usize,
    /// Heads of the attention, a divisor of the width.
    pub heads: usize,
    /// Whether h is carried from step to step.
    pub recurrent: bool,
    /// Whether the weights of messages are learned.
    pub attention: bool,
}

/// What nodes and edges show in T steps of C copies, time-major.
#[derive(Clone, Debug, Default)]
pub struct Scenes {
    /// x, `[T, C, n, node_len]`.
    pub nodes: Vec<f32>,
    /// Who hears whom, `[T, C, n, n]`.
    pub adjacency: Vec<bool>,
    /// ε, `[T, C, n, n, edge_len]`.
    pub edges: Vec<f32>,
    /// Whether an episode begins here, `[T, C]`.
    pub starts: Vec<bool>,
}

impl Scenes {
    /// Empties all.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.adjacency.clear();
        self.edges.clear();
        self.starts.clear();
    }

    /// The columns of these copies, of `all` copies, into `to`.
    fn gather(&self, copies: &[u32], all: usize, to: &mut Self) {
        fn pick<X: Copy>(from: &[X], to: &mut Vec<X>, copies: &[u32], rows: usize, all: usize) {
            let len = from.len() / rows.max(1);
            to.clear();
            for step in 0..rows / all {
                for copy in copies {
                    let row = step * all + *copy as usize;
                    to.extend_from_slice(&from[row * len..(row + 1) * len]);
                }
            }
        }
        let rows = self.starts.len();
        pick(&self.nodes, &mut to.nodes, copies, rows, all);
        pick(&self.adjacency, &mut to.adjacency, copies, rows, all);
        pick(&self.edges, &mut to.edges, copies, rows, all);
        pick(&self.starts, &mut to.starts, copies, rows, all);
    }
}

/// Queries, keys, values and what came of them; R = C n rows of W numbers.
#[derive(Clone, Debug, Default)]
struct Attention {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// `[C, n, n, heads]`
    weights: Vec<f32>,
    out: Vec<f32>,
}

/// What derivatives need of one step of time.
#[derive(Clone, Debug, Default)]
struct Moment {
    e: Vec<f32>,
    /// h as the step found it.
    before: Vec<f32>,
    heard: Attention,
    /// Σ_j α_ij ε_ij of each head, `[R, heads, edge_len]`.
    heard_edges: Vec<f32>,
    /// [m, e]
    joined: Vec<f32>,
    unit: Step,
    h: Vec<f32>,
    read: Attention,
    /// [h, Σ β W_v h]
    seen: Vec<f32>,
    hidden: Vec<f32>,
    values: Vec<f32>,
}

/// Where each part of the parameters begins: W_e, b, W_q, W_k, W_m, W_ε, the unit, W_v, W_o, b_o, w, b_v, and the end.
type Offsets = [usize; 13];

/// Room that passes share.
#[derive(Clone, Debug, Default)]
struct Scratch {
    room: Room,
    transposed: Vec<f32>,
    d_hidden: Vec<f32>,
    d_seen: Vec<f32>,
    d_h: Vec<f32>,
    d_joined: Vec<f32>,
    d_before: Vec<f32>,
    d_out: Vec<f32>,
    d_weights: Vec<f32>,
    d_q: Vec<f32>,
    d_k: Vec<f32>,
    d_v: Vec<f32>,
    d_e: Vec<f32>,
    d_sums: Vec<f32>,
    carried: Vec<f32>,
    h: Vec<f32>,
    d_values: Vec<f32>,
}

/// The network with its weights.
pub struct GraphCritic {
    shape: Shape,
    /// φ and the gradient of the loss last asked for, `[P]`.
    pub weights: super::weights::Weights,
    moments: Vec<Moment>,
    scratch: Scratch,
    picked: Scenes,
}

impl Shape {
    fn gru(&self) -> Gru {
        Gru { inputs: 2 * self.width, width: self.width }
    }

    fn offsets(&self) -> Offsets {
        let w = self.width;
        let lengths = [
            self.node_len * w,
            w,
            w * w,
            w * w,
            w * w,
            self.edge_len * w,
            self.gru().len(),
            w * w,
            2 * w * w,
            w,
            w,
            1,
        ];
        let mut offsets = [0; 13];
        for (i, len) in lengths.into_iter().enumerate() {
            offsets[i + 1] = offsets[i] + len;
        }
        offsets
    }

    /// Number of parameters, P.
    pub fn len(&self) -> usize {
        self.offsets()[12]
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Orthogonal weights, gain 1; biases 0.
    fn init(&self, rng: &mut Rng) -> Vec<f32> {
        let (w, o) = (self.width, self.offsets());
        let mut params = vec![0.0; self.len()];
        let mut fill = |offset: usize, inputs: usize, outputs: usize| {
            let weight = orthogonal(inputs, outputs, 1.0, rng);
            params[offset..offset + weight.len()].copy_from_slice(&weight);
        };
        fill(o[0], self.node_len, w);
        for at in [o[2], o[3], o[4]] {
            fill(at, w, w);
        }
        fill(o[5], self.edge_len, w);
        fill(o[6], 2 * w, 3 * w);
        fill(o[6] + (2 * w + 1) * 3 * w, w, 3 * w);
        fill(o[7], w, w);
        fill(o[8], 2 * w, w);
        fill(o[10], w, 1);
        params
    }

    /// α, or β, and Σ_j α_ij v_j, from q, k and v.
    fn attend(&self, a: &mut Attention, adjacency: &[bool]) {
        let (n, w, heads) = (self.agents, self.width, self.heads);
        let d = w / heads;
        let scale = 1.0 / (d as f32).sqrt();
        let rows = a.v.len() / w;
        a.weights.clear();
        a.weights.resize(rows * n * heads, 0.0);
        a.out.clear();
        a.out.resize(rows * w, 0.0);
        for i in 0..rows {
            let first = i / n * n;
            let hears = &adjacency[i * n..(i + 1) * n];
            for head in 0..heads {
                let at = |row: usize| row * w + head * d..row * w + (head + 1) * d;
                let weights = &mut a.weights[i * n * heads..(i + 1) * n * heads];
                let mut most = f32::NEG_INFINITY;
                for j in (0..n).filter(|j| hears[*j]) {
                    let logit = if self.attention {
                        let (q, k) = (&a.q[at(i)], &a.k[at(first + j)]);
                        scale * q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>()
                    } else {
                        0.0
                    };
                    weights[j * heads + head] = logit;
                    most = most.max(logit);
                }
                let mut total = 0.0;
                for j in (0..n).filter(|j| hears[*j]) {
                    let weight = kernels::exp(weights[j * heads + head] - most);
                    weights[j * heads + head] = weight;
                    total += weight;
                }
                for j in (0..n).filter(|j| hears[*j]) {
                    let weight = weights[j * heads + head] / total;
                    weights[j * heads + head] = weight;
                    let (out, v) = (&mut a.out[at(i)], &a.v[at(first + j)]);
                    out.iter_mut().zip(v).for_each(|(out, v)| *out += weight * v);
                }
            }
        }
    }

    /// Gradients with respect to q, k and v, for `d_out` `[R, W]` and, on entry, what else falls on the weights in
    /// `d_weights`.
    fn attend_backward(
        &self,
        a: &Attention,
        d_out: &[f32],
        d_weights: &mut [f32],
        [d_q, d_k, d_v]: [&mut Vec<f32>; 3],
    ) {
        let (n, w, heads) = (self.agents, self.width, self.heads);
        let d = w / heads;
        let scale = 1.0 / (d as f32).sqrt();
        let rows = a.v.len() / w;
        for of in [&mut *d_q, &mut *d_k, &mut *d_v] {
            of.clear();
            of.resize(rows * w, 0.0);
        }
        for i in 0..rows {
            let first = i / n * n;
            for head in 0..heads {
                let at = |row: usize| row * w + head * d..row * w + (head + 1) * d;
                let edge = |j: usize| (i * n + j) * heads + head;
                let g = &d_out[at(i)];
                let mut mean = 0.0;
                for j in 0..n {
                    let weight = a.weights[edge(j)];
                    if weight == 0.0 {
                        continue;
                    }
                    let v = &a.v[at(first + j)];
                    d_weights[edge(j)] += g.iter().zip(v).map(|(g, v)| g * v).sum::<f32>();
                    d_v[at(first + j)].iter_mut().zip(g).for_each(|(d_v, g)| *d_v += weight * g);
                    mean += weight * d_weights[edge(j)];
                }
                if !self.attention {
                    continue;
                }
                for j in 0..n {
                    let weight = a.weights[edge(j)];
                    let d_logit = scale * weight * (d_weights[edge(j)] - mean);
                    if d_logit == 0.0 {
                        continue;
                    }
                    let (q, k) = (&a.q[at(i)], &a.k[at(first + j)]);
                    d_q[at(i)].iter_mut().zip(k).for_each(|(d_q, k)| *d_q += d_logit * k);
                    d_k[at(first + j)].iter_mut().zip(q).for_each(|(d_k, q)| *d_k += d_logit * q);
                }
            }
        }
    }

    /// One step of time: from x, who hears whom, ε and h `[R, W]` to V `[R]` and the new h.
    fn forward(
        &self,
        params: &[f32],
        nodes: &[f32],
        adjacency: &[bool],
        edges: &[f32],
        h: &[f32],
        m: &mut Moment,
    ) {
        let (w, o, heads) = (self.width, self.offsets(), self.heads);
        let rows = nodes.len() / self.node_len;
        let part = |i: usize| &params[o[i]..o[i + 1]];
        let affine = |x: &[f32], weight: usize, start: Start, y: &mut Vec<f32>, n: usize| {
            y.resize(rows * n, 0.0);
            kernels::product(x, part(weight), start, y, Sizes { m: rows, n, k: x.len() / rows });
        };
        affine(nodes, 0, Start::Row(part(1)), &mut m.e, w);
        kernels::tanh(&mut m.e);
        m.before.clear();
        m.before.extend_from_slice(if self.recurrent { h } else { &m.e });

        if self.attention {
            affine(&m.before, 2, Start::Zero, &mut m.heard.q, w);
            affine(&m.before, 3, Start::Zero, &mut m.heard.k, w);
        }
        affine(&m.before, 4, Start::Zero, &mut m.heard.v, w);
        self.attend(&mut m.heard, adjacency);
        self.hear_edges(part(5), edges, m);
        m.joined.clear();
        for (heard, e) in m.heard.out.chunks_exact(w).zip(m.e.chunks_exact(w)) {
            m.joined.extend_from_slice(heard);
            m.joined.extend_from_slice(e);
        }
        m.h.resize(rows * w, 0.0);
        self.gru().forward(part(6), &m.joined, &m.before, &mut m.unit, &mut m.h);

        if self.attention {
            affine(&m.h, 2, Start::Zero, &mut m.read.q, w);
            affine(&m.h, 3, Start::Zero, &mut m.read.k, w);
        }
        affine(&m.h, 7, Start::Zero, &mut m.read.v, w);
        self.attend(&mut m.read, adjacency);
        m.seen.clear();
        for (h, read) in m.h.chunks_exact(w).zip(m.read.out.chunks_exact(w)) {
            m.seen.extend_from_slice(h);
            m.seen.extend_from_slice(read);
        }
        affine(&m.seen, 8, Start::Row(part(9)), &mut m.hidden, w);
        kernels::tanh(&mut m.hidden);
        affine(&m.hidden, 10, Start::Row(part(11)), &mut m.values, 1);
        debug_assert_eq!(m.heard.weights.len(), rows * self.agents * heads);
    }

    /// Adds Σ_j α_ij W_ε ε_ij to what is heard.
    fn hear_edges(&self, weight: &[f32], edges: &[f32], m: &mut Moment) {
        let (n, w, heads, len) = (self.agents, self.width, self.heads, self.edge_len);
        let d = w / heads;
        m.heard_edges.clear();
        m.heard_edges.resize(m.heard.out.len() / w * heads * len, 0.0);
        for (pair, edge) in edges.chunks_exact(len.max(1)).enumerate() {
            let i = pair / n;
            for head in 0..heads {
                let alpha = m.heard.weights[pair * heads + head];
                let sums = &mut m.heard_edges[(i * heads + head) * len..(i * heads + head + 1) * len];
                sums.iter_mut().zip(edge).for_each(|(sum, edge)| *sum += alpha * edge);
            }
        }
        for (block, sums) in m.heard_edges.chunks_exact(len.max(1)).enumerate() {
            let (out, head) = (&mut m.heard.out[block * d..(block + 1) * d], block % heads);
            for (sum, row) in sums.iter().zip(weight.chunks_exact(w)) {
                let row = &row[head * d..(head + 1) * d];
                out.iter_mut().zip(row).for_each(|(out, weight)| *out += sum * weight);
            }
        }
    }

    /// The transposes of matrices in the places of these, for all steps of a backward pass; the rest of `to` `[P]` is of no account.
    fn transpose(&self, params: &[f32], to: &mut Vec<f32>) {
        let (w, o) = (self.width, self.offsets());
        to.resize(params.len(), 0.0);
        for (part, inputs, outputs) in [(2, w, w), (3, w, w), (4, w, w), (7, w, w), (8, 2 * w, w), (10, w, 1)]
        {
            let range = o[part]..o[part + 1];
            kernels::transpose(&params[range.clone()], &mut to[range], inputs, outputs);
        }
        self.gru().transpose(&params[o[6]..o[7]], &mut to[o[6]..o[7]]);
    }

    /// Derivatives of a step, after [`Self::forward`] and, once, [`Self::transpose`] into `s.transposed`: for the gradients of V
    /// (`d_values` `[R]`) and of the new h (`s.carried` `[R, W]`), adds to `grad` `[P]` and puts the gradient of the old h in the
    /// place of the new one's.
    fn backward(
        &self,
        params: &[f32],
        nodes: &[f32],
        edges: &[f32],
        m: &Moment,
        d_values: &[f32],
        s: &mut Scratch,
        grad: &mut [f32],
    ) {
        let (w, o, n, heads) = (self.width, self.offsets(), self.agents, self.heads);
        let rows = d_values.len();
        let transposed = std::mem::take(&mut s.transposed);
        // y = x W: dW += xᵀ dy, and dx = dy Wᵀ, added to what is there or not.
        let back =
            |weight: usize, x: &[f32], d_y: &[f32], d_x: Option<(&mut Vec<f32>, bool)>, grad: &mut [f32]| {
                let (inputs, outputs) = (x.len() / rows, d_y.len() / rows);
                let range = o[weight]..o[weight + 1];
                let sizes = Sizes { m: inputs, n: outputs, k: rows };
                kernels::product_transposed(x, d_y, Start::Current, &mut grad[range.clone()], sizes);
                if let Some((d_x, add)) = d_x {
                    d_x.resize(rows * inputs, 0.0);
                    let start = if add { Start::Current } else { Start::Zero };
                    let sizes = Sizes { m: rows, n: inputs, k: outputs };
                    kernels::product(d_y, &transposed[range], start, d_x, sizes);
                }
            };

        // V = w·hidden + b_v, hidden = tanh(W_o seen + b_o).
        kernels::add_rows(d_values, &mut grad[o[11]..o[12]]);
        back(10, &m.hidden, d_values, Some((&mut s.d_hidden, false)), grad);
        kernels::tanh_backward(&m.hidden, &mut s.d_hidden);
        kernels::add_rows(&s.d_hidden, &mut grad[o[9]..o[10]]);
        back(8, &m.seen, &s.d_hidden, Some((&mut s.d_seen, false)), grad);
        s.d_h.clear();
        s.d_out.clear();
        for row in s.d_seen.chunks_exact(2 * w) {
            s.d_h.extend_from_slice(&row[..w]);
            s.d_out.extend_from_slice(&row[w..]);
        }
        s.d_h.iter_mut().zip(&s.carried).for_each(|(d_h, later)| *d_h += later);
        s.d_weights.clear();
        s.d_weights.resize(rows * n * heads, 0.0);
        self.attend_backward(&m.read, &s.d_out, &mut s.d_weights, [&mut s.d_q, &mut s.d_k, &mut s.d_v]);
        back(7, &m.h, &s.d_v, Some((&mut s.d_h, true)), grad);
        if self.attention {
            back(2, &m.h, &s.d_q, Some((&mut s.d_h, true)), grad);
            back(3, &m.h, &s.d_k, Some((&mut s.d_h, true)), grad);
        }

        // h = GRU([heard, e], before).
        s.d_joined.resize(rows * 2 * w, 0.0);
        s.d_before.resize(rows * w, 0.0);
        self.gru().backward(
            &transposed[o[6]..o[7]],
            (&m.joined, &m.before),
            &m.unit,
            &s.d_h,
            &mut s.room,
            &mut grad[o[6]..o[7]],
            (&mut s.d_joined, &mut s.d_before),
        );
        s.d_out.clear();
        s.d_e.clear();
        for row in s.d_joined.chunks_exact(2 * w) {
            s.d_out.extend_from_slice(&row[..w]);
            s.d_e.extend_from_slice(&row[w..]);
        }

        // heard = Σ_j α_ij (W_m before_j + W_ε ε_ij).
        s.d_weights.fill(0.0);
        self.hear_edges_backward(params, edges, m, &s.d_out, (&mut s.d_sums, &mut s.d_weights), grad);
        self.attend_backward(&m.heard, &s.d_out, &mut s.d_weights, [&mut s.d_q, &mut s.d_k, &mut s.d_v]);
        back(4, &m.before, &s.d_v, Some((&mut s.d_before, true)), grad);
        if self.attention {
            back(2, &m.before, &s.d_q, Some((&mut s.d_before, true)), grad);
            back(3, &m.before, &s.d_k, Some((&mut s.d_before, true)), grad);
        }
        s.carried.clear();
        if self.recurrent {
            s.carried.extend_from_slice(&s.d_before);
        } else {
            s.d_e.iter_mut().zip(&s.d_before).for_each(|(d_e, d)| *d_e += d);
            s.carried.resize(rows * w, 0.0);
        }

        // e = tanh(W_e x + b).
        kernels::tanh_backward(&m.e, &mut s.d_e);
        kernels::add_rows(&s.d_e, &mut grad[o[1]..o[2]]);
        back(0, nodes, &s.d_e, None, grad);
        s.transposed = transposed;
    }

    fn hear_edges_backward(
        &self,
        params: &[f32],
        edges: &[f32],
        m: &Moment,
        d_out: &[f32],
        (d_sums, d_weights): (&mut Vec<f32>, &mut [f32]),
        grad: &mut [f32],
    ) {
        let (n, w, heads, len, o) = (self.agents, self.width, self.heads, self.edge_len, self.offsets());
        let d = w / heads;
        let weight = &params[o[5]..o[6]];
        let d_weight = &mut grad[o[5]..o[6]];
        d_sums.clear();
        d_sums.resize(m.heard_edges.len(), 0.0);
        for (block, (sums, d_sums)) in
            m.heard_edges.chunks_exact(len.max(1)).zip(d_sums.chunks_exact_mut(len.max(1))).enumerate()
        {
            let (g, head) = (&d_out[block * d..(block + 1) * d], block % heads);
            for edge in 0..len {
                let row = edge * w + head * d..edge * w + (head + 1) * d;
                d_sums[edge] = g.iter().zip(&weight[row.clone()]).map(|(g, w)| g * w).sum();
                d_weight[row].iter_mut().zip(g).for_each(|(d, g)| *d += sums[edge] * g);
            }
        }
        for (pair, edge) in edges.chunks_exact(len.max(1)).enumerate() {
            let i = pair / n;
            for head in 0..heads {
                let d_sums = &d_sums[(i * heads + head) * len..(i * heads + head + 1) * len];
                d_weights[pair * heads + head] += d_sums.iter().zip(edge).map(|(d, e)| d * e).sum::<f32>();
            }
        }
    }
}

impl GraphCritic {
    /// A critic with fresh weights drawn from `rng`, on the CPU.
    pub fn new(shape: Shape, rng: &mut Rng, device: &super::device::Device) -> Self {
        Self {
            weights: super::weights::Weights::new(shape.init(rng), device),
            shape,
            moments: Vec::new(),
            scratch: Scratch::default(),
            picked: Scenes::default(),
        }
    }

    /// Number of parameters, P.
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers that are carried from step to step, of one copy.
    pub fn memory_len(&self) -> usize {
        self.shape.agents * self.shape.width
    }

    fn params(&self) -> &[f32] {
        let super::weights::Vector::Host(params) = &self.weights.params else { super::weights::apart() };
        params
    }

    /// V_i of every scene, `[T, C, n]`, added to `values`, from memories `[C, n, W]`, which become those after the last
    /// scene. `after` sees the memories `[C, n, W]` after each step.
    pub fn values(
        &mut self,
        scenes: &Scenes,
        memory: &mut [f32],
        values: &mut Vec<f32>,
        mut after: impl FnMut(usize, &[f32]),
    ) {
        let mut moments = std::mem::take(&mut self.moments);
        let mut moment = moments.pop().unwrap_or_default();
        let copies = memory.len() / self.memory_len();
        for step in 0..scenes.starts.len() / copies {
            self.step(scenes, step, memory, &mut moment);
            memory.copy_from_slice(&moment.h);
            values.extend_from_slice(&moment.values);
            after(step, memory);
        }
        moments.push(moment);
        self.moments = moments;
    }

    /// One step of `scenes` from the memories before it.
    fn step(&self, scenes: &Scenes, step: usize, memory: &mut [f32], moment: &mut Moment) {
        let (shape, len) = (self.shape, self.memory_len());
        let (n, copies) = (shape.agents, memory.len() / len);
        let of = |len: usize| step * copies * len..(step + 1) * copies * len;
        for (copy, start) in scenes.starts[of(1)].iter().enumerate() {
            if *start {
                memory[copy * len..(copy + 1) * len].fill(0.0);
            }
        }
        shape.forward(
            self.params(),
            &scenes.nodes[of(n * shape.node_len)],
            &scenes.adjacency[of(n * n)],
            &scenes.edges[of(n * n * shape.edge_len)],
            memory,
            moment,
        );
    }

    /// Mean of `loss` over the scenes of `copies`, of `all` copies, whose rollout began with `memory` `[all, n, W]`, with
    /// returns and old values `[T, all, n]`; its gradient goes to [`Self::weights`].
    pub fn grad(
        &mut self,
        scenes: &Scenes,
        memory: &[f32],
        (returns, values_old): (&[f32], &[f32]),
        copies: &[u32],
        loss: &impl ValueLoss,
    ) -> f64 {
        let (shape, len) = (self.shape, self.memory_len());
        let (n, all) = (shape.agents, memory.len() / len);
        let mut picked = std::mem::take(&mut self.picked);
        scenes.gather(copies, all, &mut picked);
        let mut s = std::mem::take(&mut self.scratch);
        let mut h = std::mem::take(&mut s.h);
        h.clear();
        copies.iter().for_each(|c| h.extend_from_slice(&memory[*c as usize * len..(*c as usize + 1) * len]));
        let steps = picked.starts.len() / copies.len();
        let mut moments = std::mem::take(&mut self.moments);
        moments.resize_with(steps.max(moments.len()), Moment::default);
        for (step, moment) in moments.iter_mut().take(steps).enumerate() {
            self.step(&picked, step, &mut h, moment);
            h.copy_from_slice(&moment.h);
        }

        let nothing = super::weights::Vector::Host(Vec::new());
        let super::weights::Vector::Host(mut grad) = std::mem::replace(&mut self.weights.grad, nothing)
        else {
            super::weights::apart()
        };
        grad.fill(0.0);
        shape.transpose(self.params(), &mut s.transposed);
        s.carried.clear();
        s.carried.resize(copies.len() * len, 0.0);
        let (rows, share) = (copies.len() * n, 1.0 / (steps * copies.len() * n) as f32);
        let (mut sum, mut d_values) = (0.0, std::mem::take(&mut s.d_values));
        d_values.resize(rows, 0.0);
        for step in (0..steps).rev() {
            for (i, d) in d_values.iter_mut().enumerate() {
                let row = (step * all + copies[i / n] as usize) * n + i % n;
                let value = Dual::<1>::variable(moments[step].values[i], 0);
                let row = loss.row(value, Dual::constant(returns[row]), Dual::constant(values_old[row]));
                sum += f64::from(row.value);
                *d = row.slope[0] * share;
            }
            let of = |len: usize| step * copies.len() * len..(step + 1) * copies.len() * len;
            let nodes = &picked.nodes[of(n * shape.node_len)];
            let edges = &picked.edges[of(n * n * shape.edge_len)];
            shape.backward(self.params(), nodes, edges, &moments[step], &d_values, &mut s, &mut grad);
            for (copy, start) in picked.starts[of(1)].iter().enumerate() {
                if *start {
                    s.carried[copy * len..(copy + 1) * len].fill(0.0);
                }
            }
        }
        self.weights.grad = super::weights::Vector::Host(grad);
        (s.h, s.d_values) = (h, d_values);
        (self.scratch, self.moments, self.picked) = (s, moments, picked);
        sum * f64::from(share)
    }

    /// Saves the weights.
    pub fn save(&self, name: &str, state: &mut State) {
        state.put_f32(&format!("{name}.graph"), self.params());
    }

    /// Restores the weights.
    ///
    /// # Errors
    /// When the entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        self.weights.set(state.f32(&format!("{name}.graph"), self.len())?.to_vec());
        Ok(())
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::super::device::Device;
    use super::super::gru::tests::textbook;
    use super::super::loss::SquaredError;
    use super::super::testing::{close, normals, rng};
    use super::*;

    const STEPS: usize = 4;
    const COPIES: usize = 2;

    fn shapes() -> Vec<Shape> {
        let full = Shape {
            agents: 3,
            node_len: 4,
            edge_len: 2,
            width: 6,
            heads: 2,
            recurrent: true,
            attention: true,
        };
        vec![
            full,
            Shape { recurrent: false, ..full },
            Shape { attention: false, ..full },
            Shape { edge_len: 0, heads: 1, recurrent: false, ..full },
            Shape { agents: 1, ..full },
        ]
    }

    /// Not everyone hears everyone; an episode of the second copy ends in the middle.
    fn scenes(s: Shape) -> Scenes {
        let n = s.agents;
        let hears = |pair: usize| {
            let (i, j) = (pair / n % n, pair % n);
            i == j || (pair * 7 + 3) % 5 < 3
        };
        let adjacency: Vec<bool> = (0..STEPS * COPIES * n * n).map(hears).collect();
        let mut edges = normals(adjacency.len() * s.edge_len, 2);
        for (edge, hears) in edges.chunks_exact_mut(s.edge_len.max(1)).zip(&adjacency) {
            if !hears {
                edge.fill(0.0);
            }
        }
        Scenes {
            nodes: normals(STEPS * COPIES * n * s.node_len, 1),
            adjacency,
            edges,
            starts: (0..STEPS * COPIES).map(|row| row == 2 * COPIES + 1).collect(),
        }
    }

    /// V of all scenes in `f64`, from the equations of the module's head.
    fn book(s: Shape, params: &[f64], scenes: &Scenes, memory: &[f64]) -> Vec<f64> {
        let (n, w, o, d) = (s.agents, s.width, s.offsets(), s.width / s.heads);
        let times = |x: &[f64], part: usize, columns: usize| -> Vec<f64> {
            let sum = |c: usize| (0..x.len()).map(|k| x[k] * params[o[part] + k * columns + c]).sum::<f64>();
            (0..columns).map(sum).collect()
        };
        let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
        let add = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
        let mut memory = memory.to_vec();
        let mut values = Vec::new();
        for row in 0..STEPS * COPIES {
            let copy = row % COPIES;
            let own = &mut memory[copy * n * w..(copy + 1) * n * w];
            if scenes.starts[row] {
                own.fill(0.0);
            }
            let hears = |i: usize, j: usize| scenes.adjacency[(row * n + i) * n + j];
            let attend = |h: &[Vec<f64>], i: usize, c: usize, value: &dyn Fn(usize) -> f64| {
                let block = c / d * d..(c / d + 1) * d;
                let logit = |j: usize| {
                    let (q, k) = (times(&h[i], 2, w), times(&h[j], 3, w));
                    let product: f64 = block.clone().map(|b| q[b] * k[b]).sum();
                    if s.attention { (product / (d as f64).sqrt()).exp() } else { 1.0 }
                };
                let heard: Vec<usize> = (0..n).filter(|j| hears(i, *j)).collect();
                let total: f64 = heard.iter().map(|j| logit(*j)).sum();
                heard.iter().map(|j| logit(*j) / total * value(*j)).sum::<f64>()
            };
            let e: Vec<Vec<f64>> = (0..n)
                .map(|i| {
                    let x = wide(&scenes.nodes[(row * n + i) * s.node_len..][..s.node_len]);
                    let sums = add(&times(&x, 0, w), &params[o[1]..o[2]]);
                    sums.iter().map(|x| x.tanh()).collect()
                })
                .collect();
            let before: Vec<Vec<f64>> =
                if s.recurrent { own.chunks_exact(w).map(<[f64]>::to_vec).collect() } else { e.clone() };
            let h: Vec<Vec<f64>> = (0..n)
                .map(|i| {
                    let told = |j: usize| {
                        let edge = wide(&scenes.edges[((row * n + i) * n + j) * s.edge_len..][..s.edge_len]);
                        add(&times(&before[j], 4, w), &times(&edge, 5, w))
                    };
                    let heard = (0..w).map(|c| attend(&before, i, c, &|j| told(j)[c]));
                    let joined: Vec<f64> = heard.chain(e[i].iter().copied()).collect();
                    textbook(s.gru(), &params[o[6]..o[7]], &joined, &before[i])
                })
                .collect();
            for i in 0..n {
                let read = (0..w).map(|c| attend(&h, i, c, &|j| times(&h[j], 7, w)[c]));
                let seen: Vec<f64> = h[i].iter().copied().chain(read).collect();
                let hidden: Vec<f64> =
                    add(&times(&seen, 8, w), &params[o[9]..o[10]]).iter().map(|x| x.tanh()).collect();
                values.push(times(&hidden, 10, 1)[0] + params[o[11]]);
            }
            own.iter_mut().zip(h.concat()).for_each(|(own, h)| *own = h);
        }
        values
    }

    fn critic(s: Shape) -> GraphCritic {
        let mut critic = GraphCritic::new(s, &mut rng(0), &Device::cpu());
        // Away from zero biases.
        let params = normals(s.len(), 5).iter().map(|p| 0.5 * p).collect();
        critic.weights.set(params);
        critic
    }

    #[test]
    fn values_and_gradients_are_those_of_the_equations() {
        const H: f64 = 1e-5;
        for s in shapes() {
            let (mut critic, scenes) = (critic(s), scenes(s));
            let memory: Vec<f32> = normals(COPIES * s.agents * s.width, 3).iter().map(|x| 0.5 * x).collect();
            let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
            let (params, h0) = (wide(&critic.weights.to_host()), wide(&memory));
            let mut values = Vec::new();
            critic.values(&scenes, &mut memory.clone(), &mut values, |_, _| ());
            close(&values, &book(s, &params, &scenes, &h0), 1e-5);

            let returns = normals(values.len(), 4);
            let loss = SquaredError { clip: 0.0, weight: 1.0 };
            // The copies in another order, and one alone.
            for copies in [&[1, 0][..], &[1]] {
                let mean = critic.grad(&scenes, &memory, (&returns, &values), copies, &loss);
                let error = |params: &[f64]| {
                    let values = book(s, params, &scenes, &h0);
                    let rows = values.iter().zip(&returns).enumerate();
                    let of = rows.filter(|(i, _)| copies.contains(&((i / s.agents % COPIES) as u32)));
                    let squares: Vec<f64> = of.map(|(_, (v, r))| (v - f64::from(*r)).powi(2)).collect();
                    squares.iter().sum::<f64>() / squares.len() as f64
                };
                close(&[mean], &[error(&params)], 1e-5);
                let grad = critic.weights.grad_to_host();
                for i in 0..s.len() {
                    let at = |by: f64| {
                        let mut params = params.clone();
                        params[i] += by;
                        error(&params)
                    };
                    let expected = (at(H) - at(-H)) / (2.0 * H);
                    assert!(
                        (f64::from(grad[i]) - expected).abs() < 1e-4,
                        "{s:?} {i}: {} {expected}",
                        grad[i]
                    );
                }
            }
        }
    }

    /// Agents renamed: the same values, renamed.
    #[test]
    fn values_follow_the_agents() {
        let s = shapes()[0];
        let (mut critic, scenes) = (critic(s), scenes(s));
        let turn = |i: usize| (i + 1) % 3;
        let rows = STEPS * COPIES;
        let mut turned = scenes.clone();
        for row in 0..rows {
            for i in 0..3 {
                let (from, to) = ((row * 3 + i) * 4, (row * 3 + turn(i)) * 4);
                turned.nodes[to..to + 4].copy_from_slice(&scenes.nodes[from..from + 4]);
                for j in 0..3 {
                    let (from, to) = ((row * 3 + i) * 3 + j, (row * 3 + turn(i)) * 3 + turn(j));
                    turned.adjacency[to] = scenes.adjacency[from];
                    turned.edges[to * 2..to * 2 + 2].copy_from_slice(&scenes.edges[from * 2..from * 2 + 2]);
                }
            }
        }
        let mut all = |scenes: &Scenes| {
            let mut values = Vec::new();
            critic.values(scenes, &mut [0.0; COPIES * 18], &mut values, |_, _| ());
            values
        };
        let (plain, other) = (all(&scenes), all(&turned));
        let expected: Vec<f32> = (0..rows * 3).map(|k| plain[k / 3 * 3 + (k % 3 + 2) % 3]).collect();
        close(&other, &expected, 1e-5);
    }

    /// What a memory is good for: the return is what was shown at the start of the episode. Without recurrence it cannot
    /// be known later.
    #[test]
    fn only_a_critic_with_memory_remembers() {
        let learn = |recurrent: bool| {
            let shape =
                Shape { agents: 2, node_len: 2, edge_len: 0, width: 8, heads: 2, recurrent, attention: true };
            let (steps, copies) = (6, 32);
            let bits: Vec<f32> = normals(copies, 1).iter().map(|x| x.signum()).collect();
            let mut scenes = Scenes { adjacency: vec![true; steps * copies * 4], ..Scenes::default() };
            let mut returns = Vec::new();
            for step in 0..steps {
                for bit in &bits {
                    // The first agent is shown it; both are asked.
                    let shown = if step == 0 { *bit } else { 0.0 };
                    scenes.nodes.extend([shown, 1.0, 0.0, 1.0]);
                    scenes.starts.push(step == 0);
                    returns.extend([*bit, -*bit]);
                }
            }
            let mut critic = GraphCritic::new(shape, &mut rng(0), &Device::cpu());
            let mut adam = super::super::adam::Adam::new(critic.len(), 1e-8, &Device::cpu());
            let (memory, all): (_, Vec<u32>) = (vec![0.0; copies * 16], (0..copies as u32).collect());
            let loss = SquaredError { clip: 0.0, weight: 1.0 };
            let mut error = 0.0;
            for _ in 0..400 {
                error = critic.grad(&scenes, &memory, (&returns, &returns), &all, &loss);
                adam.step(&mut critic.weights, 0.01);
            }
            error
        };
        let (with, without) = (learn(true), learn(false));
        assert!(with < 0.2 && without > 0.6, "{with}, {without}");
    }
}
