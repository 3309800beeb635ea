//! A gated recurrent unit on plain slices, one step of time a call: what remembers in recurrent critics and actors.
//!
//! K. Cho et al., *Learning phrase representations using RNN encoder-decoder for statistical machine translation*, 2014,
//! arXiv:1406.1078, with the reset gate behind the product, as in most libraries:
//!
//! ```text
//! r = σ(W_r x + b_r + U_r h + d_r)        z = σ(W_z x + b_z + U_z h + d_z)
//! c = tanh(W_c x + b_c + r (U_c h + d_c))  h' = (1 − z) c + z h
//! ```
//!
//! Parameters lie in one slice: W `[inputs, 3 width]` row by row, b, U `[width, 3 width]`, d; columns in the order r, z, c.

use super::kernels::{self, Sizes, Start};

/// Shape of a unit; the weights are the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gru {
    /// Length of x.
    pub inputs: usize,
    /// Length of h.
    pub width: usize,
}

/// What derivatives need of a step of R rows.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// r, z and c, `[R, 3 width]`.
    gates: Vec<f32>,
    /// U h + d, `[R, 3 width]`.
    recalled: Vec<f32>,
}

/// Room for derivatives, kept between calls.
#[derive(Clone, Debug, Default)]
pub struct Room {
    of_x: Vec<f32>,
    of_h: Vec<f32>,
}

/// σ(x) = (1 + tanh(x/2))/2 of every element, in place.
fn sigmoid(values: &mut [f32]) {
    kernels::scale(values, 0.5);
    kernels::tanh(values);
    values.iter_mut().for_each(|v| *v = 0.5 + 0.5 * *v);
}

impl Gru {
    /// Number of parameters, P.
    pub fn len(&self) -> usize {
        (self.inputs + self.width + 2) * 3 * self.width
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// W, b, U and d of `params` `[P]`.
    fn parts<'a>(&self, params: &'a [f32]) -> [&'a [f32]; 4] {
        let columns = 3 * self.width;
        let (w, rest) = params.split_at(self.inputs * columns);
        let (b, rest) = rest.split_at(columns);
        let (u, d) = rest.split_at(self.width * columns);
        [w, b, u, d]
    }

    fn parts_mut<'a>(&self, params: &'a mut [f32]) -> [&'a mut [f32]; 4] {
        let columns = 3 * self.width;
        let (w, rest) = params.split_at_mut(self.inputs * columns);
        let (b, rest) = rest.split_at_mut(columns);
        let (u, d) = rest.split_at_mut(self.width * columns);
        [w, b, u, d]
    }

    fn of_x(&self, rows: usize) -> Sizes {
        Sizes { m: rows, n: 3 * self.width, k: self.inputs }
    }

    fn of_h(&self, rows: usize) -> Sizes {
        Sizes { m: rows, n: 3 * self.width, k: self.width }
    }

    /// h' `[R, width]` from x `[R, inputs]` and h `[R, width]`; `step` keeps what the derivatives need.
    pub fn forward(&self, params: &[f32], x: &[f32], h: &[f32], step: &mut Step, next: &mut [f32]) {
        let (n, [w, b, u, d]) = (self.width, self.parts(params));
        let rows = h.len() / n;
        let Step { gates, recalled } = step;
        gates.resize(rows * 3 * n, 0.0);
        recalled.resize(rows * 3 * n, 0.0);
        kernels::product(x, w, Start::Row(b), gates, self.of_x(rows));
        kernels::product(h, u, Start::Row(d), recalled, self.of_h(rows));
        for (row, gates) in gates.chunks_exact_mut(3 * n).enumerate() {
            let recalled = &recalled[row * 3 * n..(row + 1) * 3 * n];
            let (open, c) = gates.split_at_mut(2 * n);
            open.iter_mut().zip(recalled).for_each(|(gate, from_h)| *gate += from_h);
            sigmoid(open);
            for i in 0..n {
                c[i] += open[i] * recalled[2 * n + i];
            }
            kernels::tanh(c);
            let (h, next) = (&h[row * n..(row + 1) * n], &mut next[row * n..(row + 1) * n]);
            for i in 0..n {
                next[i] = (1.0 - open[n + i]) * c[i] + open[n + i] * h[i];
            }
        }
    }

    /// Wᵀ and Uᵀ in the places of W and U, for all steps of a [`Self::backward`] pass; the rest of `to` `[P]` is left alone.
    pub fn transpose(&self, params: &[f32], to: &mut [f32]) {
        let ([w, _, u, _], [w_to, _, u_to, _]) = (self.parts(params), self.parts_mut(to));
        kernels::transpose(w, w_to, self.inputs, 3 * self.width);
        kernels::transpose(u, u_to, self.width, 3 * self.width);
    }

    /// For g = `d_next` `[R, width]`, after a forward step on `x` and `h`: the gradient of Σ g ∘ h' with respect to the
    /// parameters, added to `grad`, and those with respect to x and h, written to `d_x` and `d_h`. `transposed` `[P]` is from
    /// [`Self::transpose`].
    pub fn backward(
        &self,
        transposed: &[f32],
        (x, h): (&[f32], &[f32]),
        step: &Step,
        d_next: &[f32],
        room: &mut Room,
        grad: &mut [f32],
        (d_x, d_h): (&mut [f32], &mut [f32]),
    ) {
        let n = self.width;
        let rows = h.len() / n;
        let Room { of_x, of_h } = room;
        of_x.resize(rows * 3 * n, 0.0);
        of_h.resize(rows * 3 * n, 0.0);
        for row in 0..rows {
            let (wide, narrow) = (row * 3 * n..(row + 1) * 3 * n, row * n..(row + 1) * n);
            let (gates, recalled) = (&step.gates[wide.clone()], &step.recalled[wide.clone()]);
            let (of_x, of_h) = (&mut of_x[wide.clone()], &mut of_h[wide]);
            let (h, g, d_h) = (&h[narrow.clone()], &d_next[narrow.clone()], &mut d_h[narrow]);
            for i in 0..n {
                let (r, z, c) = (gates[i], gates[n + i], gates[2 * n + i]);
                let d_c = g[i] * (1.0 - z) * (1.0 - c * c);
                let d_r = d_c * recalled[2 * n + i] * r * (1.0 - r);
                let d_z = g[i] * (h[i] - c) * z * (1.0 - z);
                (of_x[i], of_x[n + i], of_x[2 * n + i]) = (d_r, d_z, d_c);
                (of_h[i], of_h[n + i], of_h[2 * n + i]) = (d_r, d_z, d_c * r);
                d_h[i] = g[i] * z;
            }
        }
        let [w_transposed, _, u_transposed, _] = self.parts(transposed);
        let [d_w, d_b, d_u, d_d] = self.parts_mut(grad);
        let (inputs, columns) = (self.inputs, 3 * n);
        kernels::add_rows(of_x, d_b);
        kernels::add_rows(of_h, d_d);
        kernels::product_transposed(x, of_x, Start::Current, d_w, Sizes { m: inputs, n: columns, k: rows });
        kernels::product_transposed(h, of_h, Start::Current, d_u, Sizes { m: n, n: columns, k: rows });
        kernels::product(of_x, w_transposed, Start::Zero, d_x, Sizes { m: rows, n: inputs, k: columns });
        kernels::product(of_h, u_transposed, Start::Current, d_h, Sizes { m: rows, n, k: columns });
    }

    /// Directional derivative of h' along `tangent` `[P]`, `d_x` `[R, inputs]` and `d_h` `[R, width]`, into `d_next`, after a
    /// forward step on `x` and `h`.
    pub fn tangent(
        &self,
        (params, tangent): (&[f32], &[f32]),
        (x, h): (&[f32], &[f32]),
        step: &Step,
        (d_x, d_h): (&[f32], &[f32]),
        room: &mut Room,
        d_next: &mut [f32],
    ) {
        let n = self.width;
        let rows = h.len() / n;
        let Room { of_x, of_h } = room;
        of_x.resize(rows * 3 * n, 0.0);
        of_h.resize(rows * 3 * n, 0.0);
        let [w, _, u, _] = self.parts(params);
        let [t_w, t_b, t_u, t_d] = self.parts(tangent);
        kernels::product(x, t_w, Start::Row(t_b), of_x, self.of_x(rows));
        kernels::product(d_x, w, Start::Current, of_x, self.of_x(rows));
        kernels::product(h, t_u, Start::Row(t_d), of_h, self.of_h(rows));
        kernels::product(d_h, u, Start::Current, of_h, self.of_h(rows));
        for row in 0..rows {
            let (wide, narrow) = (row * 3 * n..(row + 1) * 3 * n, row * n..(row + 1) * n);
            let (gates, recalled) = (&step.gates[wide.clone()], &step.recalled[wide.clone()]);
            let (of_x, of_h) = (&of_x[wide.clone()], &of_h[wide]);
            let (h, d_h, d_next) = (&h[narrow.clone()], &d_h[narrow.clone()], &mut d_next[narrow]);
            for i in 0..n {
                let (r, z, c) = (gates[i], gates[n + i], gates[2 * n + i]);
                let t_r = (of_x[i] + of_h[i]) * r * (1.0 - r);
                let t_z = (of_x[n + i] + of_h[n + i]) * z * (1.0 - z);
                let t_c = (of_x[2 * n + i] + t_r * recalled[2 * n + i] + r * of_h[2 * n + i]) * (1.0 - c * c);
                d_next[i] = (1.0 - z) * t_c + z * d_h[i] + t_z * (h[i] - c);
            }
        }
    }
}

#[cfg(all(test, feature = "cpu"))]
pub(super) mod tests {
    use super::super::testing::{close, normals};
    use super::*;

    /// A step in `f64`, the textbook way.
    pub fn textbook(gru: Gru, params: &[f64], x: &[f64], h: &[f64]) -> Vec<f64> {
        let Gru { inputs, width: n } = gru;
        let u = (inputs + 1) * 3 * n;
        let sum = |offset: usize, v: &[f64], column: usize| {
            let products: f64 = (0..v.len()).map(|k| v[k] * params[offset + k * 3 * n + column]).sum();
            products + params[offset + v.len() * 3 * n + column]
        };
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        (0..n)
            .map(|i| {
                let gate = |column: usize| sigmoid(sum(0, x, column) + sum(u, h, column));
                let (r, z) = (gate(i), gate(n + i));
                let c = (sum(0, x, 2 * n + i) + r * sum(u, h, 2 * n + i)).tanh();
                (1.0 - z) * c + z * h[i]
            })
            .collect()
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|x| f64::from(*x)).collect()
    }

    #[test]
    fn steps_and_their_derivatives_are_the_textbooks() {
        const H: f64 = 1e-5;
        for (inputs, width, rows) in [(1, 1, 1), (3, 4, 2), (7, 17, 5)] {
            let gru = Gru { inputs, width };
            let params: Vec<f32> = normals(gru.len(), 1).iter().map(|p| 0.5 * p).collect();
            let (x, h) = (normals(rows * inputs, 2), normals(rows * width, 3));
            let (g, direction) = (normals(rows * width, 4), normals(gru.len(), 5));
            let (t_x, t_h) = (normals(rows * inputs, 7), normals(rows * width, 6));
            let (mut step, mut room) = (Step::default(), Room::default());
            let mut next = vec![0.0; rows * width];
            gru.forward(&params, &x, &h, &mut step, &mut next);
            let all = |params: &[f64], x: &[f64], h: &[f64]| -> Vec<f64> {
                let rows = x.chunks_exact(inputs).zip(h.chunks_exact(width));
                rows.flat_map(|(x, h)| textbook(gru, params, x, h)).collect()
            };
            let (p, x_, h_) = (wide(&params), wide(&x), wide(&h));
            close(&next, &all(&p, &x_, &h_), 1e-5);

            let mut grad = vec![1.0; gru.len()];
            let (mut d_x, mut d_h) = (vec![9.0; x.len()], vec![9.0; h.len()]);
            let mut transposed = vec![f32::NAN; gru.len()];
            gru.transpose(&params, &mut transposed);
            gru.backward(&transposed, (&x, &h), &step, &g, &mut room, &mut grad, (&mut d_x, &mut d_h));
            let moved = |v: &[f64], i: usize, by: f64| {
                let mut v = v.to_vec();
                v[i] += by;
                v
            };
            let weighed = |v: Vec<f64>| v.iter().zip(&g).map(|(v, g)| v * f64::from(*g)).sum::<f64>();
            let slope = |at: &dyn Fn(f64) -> Vec<f64>| (weighed(at(H)) - weighed(at(-H))) / (2.0 * H);
            for i in 0..gru.len() {
                let expected = slope(&|by| all(&moved(&p, i, by), &x_, &h_));
                close(&[grad[i] - 1.0], &[expected], 1e-4);
            }
            for i in 0..x.len() {
                close(&[d_x[i]], &[slope(&|by| all(&p, &moved(&x_, i, by), &h_))], 1e-4);
            }
            for i in 0..h.len() {
                close(&[d_h[i]], &[slope(&|by| all(&p, &x_, &moved(&h_, i, by)))], 1e-4);
            }
            let mut along = vec![0.0; next.len()];
            gru.tangent((&params, &direction), (&x, &h), &step, (&t_x, &t_h), &mut room, &mut along);
            let at = |by: f64| {
                let move_all = |v: &[f64], d: &[f32]| -> Vec<f64> {
                    v.iter().zip(d).map(|(v, d)| v + by * f64::from(*d)).collect()
                };
                all(&move_all(&p, &direction), &move_all(&x_, &t_x), &move_all(&h_, &t_h))
            };
            let expected: Vec<f64> =
                at(H).iter().zip(at(-H)).map(|(up, down)| (up - down) / (2.0 * H)).collect();
            close(&along, &expected, 1e-4);
        }
    }
}
