//! What makes a policy remember: an encoder and a gated recurrent unit in front of its network.
//!
//! ```text
//! e_t = tanh(W x_t + b)        h_t = GRU(e_t, h_{t−1}), h = 0 where an episode begins
//! ```
//!
//! h_t is what the policy's network sees in the place of the observation. A rollout of T steps of N copies goes through time-major;
//! its first memories are data, so that derivatives go back to the rollout's beginning. One step alone gives the bits that the pass
//! over a rollout gives.

use steadfast_envs::Rng;
use steadfast_envs::state::Array;
use steadfast_envs::{State, StateError};

use super::gru::{Gru, Room, Step};
use super::kernels::{self, Sizes, Start};
use super::mlp::orthogonal;

/// Shape; the weights are the caller's: W `[inputs, width]` row by row, b, those of the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// Length of x.
    pub inputs: usize,
    /// Length of e and h.
    pub width: usize,
}

/// A rollout, or a step of it: observations with where episodes begin and what was remembered before.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// x, `[T, N, inputs]`.
    pub obs: &'a [f32],
    /// Whether an episode begins here, `[T, N]`.
    pub starts: &'a [bool],
    /// h before the first step, `[N, width]`.
    pub memory: &'a [f32],
}

/// What derivatives need of a pass, and room for them.
#[derive(Clone, Debug, Default)]
pub struct Memories {
    /// e, h before each step, and h, `[T, N, width]`.
    e: Vec<f32>,
    before: Vec<f32>,
    h: Vec<f32>,
    steps: Vec<Step>,
    room: Room,
    transposed: Vec<f32>,
    d_h: Vec<f32>,
    d_before: Vec<f32>,
    d_e: Vec<f32>,
}

impl Memories {
    /// h of every step of the last pass, `[T, N, width]`.
    pub fn features(&self) -> &[f32] {
        &self.h
    }
}

impl Recurrence {
    fn gru(self) -> Gru {
        Gru { inputs: self.width, width: self.width }
    }

    fn unit(self) -> usize {
        (self.inputs + 1) * self.width
    }

    /// Number of parameters, P.
    pub fn len(self) -> usize {
        self.unit() + self.gru().len()
    }

    /// Never true.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Names and shapes of the parts of the parameters, in order.
    fn parts(self) -> [(&'static str, Vec<usize>); 6] {
        let (i, w) = (self.inputs, self.width);
        [
            ("encoder.weight", vec![i, w]),
            ("encoder.bias", vec![w]),
            ("unit.weight", vec![w, 3 * w]),
            ("unit.bias", vec![3 * w]),
            ("unit.recurrent_weight", vec![w, 3 * w]),
            ("unit.recurrent_bias", vec![3 * w]),
        ]
    }

    /// Orthogonal weights, gain √2 in the encoder and 1 in the unit; biases 0.
    pub fn init(self, rng: &mut Rng) -> Vec<f32> {
        let mut params = vec![0.0; self.len()];
        let mut start = 0;
        for (i, (_, shape)) in self.parts().into_iter().enumerate() {
            if let [rows, columns] = shape[..] {
                let gain = if i == 0 { std::f64::consts::SQRT_2 } else { 1.0 };
                params[start..start + rows * columns].copy_from_slice(&orthogonal(rows, columns, gain, rng));
            }
            start += shape.iter().product::<usize>();
        }
        params
    }

    fn encode(self, params: &[f32], obs: &[f32], e: &mut Vec<f32>) {
        let (i, w) = (self.inputs, self.width);
        let rows = obs.len() / i;
        e.resize(rows * w, 0.0);
        let bias = Start::Row(&params[i * w..(i + 1) * w]);
        kernels::product(obs, &params[..i * w], bias, e, Sizes { m: rows, n: w, k: i });
        kernels::tanh(e);
    }

    /// One step of N copies: `memory` `[N, width]` becomes h at observations `[N, inputs]`.
    pub fn step(self, params: &[f32], obs: &[f32], memory: &mut [f32], m: &mut Memories) {
        self.encode(params, obs, &mut m.e);
        m.h.resize(memory.len(), 0.0);
        if m.steps.is_empty() {
            m.steps.push(Step::default());
        }
        self.gru().forward(&params[self.unit()..self.len()], &m.e, memory, &mut m.steps[0], &mut m.h);
        memory.copy_from_slice(&m.h);
    }

    /// h of every step, `[T, N, width]`; `m` keeps what the derivatives need.
    pub fn forward<'a>(self, params: &[f32], past: Past, m: &'a mut Memories) -> &'a [f32] {
        let (w, unit) = (self.width, &params[self.unit()..self.len()]);
        self.encode(params, past.obs, &mut m.e);
        let row = past.memory.len();
        let steps = m.e.len().checked_div(row).unwrap_or(0);
        m.before.resize(m.e.len(), 0.0);
        m.h.resize(m.e.len(), 0.0);
        if m.steps.len() < steps {
            m.steps.resize_with(steps, Step::default);
        }
        for t in 0..steps {
            let here = t * row..(t + 1) * row;
            let before = &mut m.before[here.clone()];
            before.copy_from_slice(if t == 0 { past.memory } else { &m.h[(t - 1) * row..t * row] });
            let starts = &past.starts[t * row / w..(t + 1) * row / w];
            forget(before, starts, w);
            self.gru().forward(unit, &m.e[here.clone()], before, &mut m.steps[t], &mut m.h[here]);
        }
        &m.h
    }

    /// Gradient `[P]` of Σ g ∘ h for `d_features` g `[T, N, width]`, into `grad`, after [`Self::forward`] on `past`.
    pub fn backward(
        self,
        params: &[f32],
        past: Past,
        d_features: &[f32],
        m: &mut Memories,
        grad: &mut [f32],
    ) {
        let (i, w, unit) = (self.inputs, self.width, self.unit());
        let row = past.memory.len();
        grad[..self.len()].fill(0.0);
        m.d_e.resize(m.e.len(), 0.0);
        m.d_before.clear();
        m.d_before.resize(row, 0.0);
        m.d_h.resize(row, 0.0);
        m.transposed.resize(self.gru().len(), 0.0);
        self.gru().transpose(&params[unit..self.len()], &mut m.transposed);
        let steps = m.e.len().checked_div(row).unwrap_or(0);
        for t in (0..steps).rev() {
            let here = t * row..(t + 1) * row;
            m.d_h.copy_from_slice(&d_features[here.clone()]);
            // What the step after made of h, unless it began an episode.
            if t + 1 < steps {
                forget(&mut m.d_before, &past.starts[(t + 1) * row / w..(t + 2) * row / w], w);
            }
            m.d_h.iter_mut().zip(&m.d_before).for_each(|(d, later)| *d += later);
            self.gru().backward(
                &m.transposed,
                (&m.e[here.clone()], &m.before[here.clone()]),
                &m.steps[t],
                &m.d_h,
                &mut m.room,
                &mut grad[unit..self.len()],
                (&mut m.d_e[here], &mut m.d_before),
            );
        }
        kernels::tanh_backward(&m.e, &mut m.d_e);
        let (weight, bias) = grad[..unit].split_at_mut(i * w);
        kernels::add_rows(&m.d_e, bias);
        let rows = m.e.len() / w;
        kernels::product_transposed(past.obs, &m.d_e, Start::Zero, weight, Sizes { m: i, n: w, k: rows });
    }

    /// Directional derivative of every h along `tangent` `[P]`, into `d_features` `[T, N, width]`, after [`Self::forward`] on `past`.
    pub fn tangent(
        self,
        params: &[f32],
        past: Past,
        tangent: &[f32],
        m: &mut Memories,
        d_features: &mut Vec<f32>,
    ) {
        let (i, w, unit) = (self.inputs, self.width, self.unit());
        let row = past.memory.len();
        let rows = m.e.len() / w;
        m.d_e.resize(m.e.len(), 0.0);
        let bias = Start::Row(&tangent[i * w..unit]);
        kernels::product(past.obs, &tangent[..i * w], bias, &mut m.d_e, Sizes { m: rows, n: w, k: i });
        kernels::tanh_backward(&m.e, &mut m.d_e);
        d_features.resize(m.e.len(), 0.0);
        m.d_h.clear();
        m.d_h.resize(row, 0.0);
        let steps = m.e.len().checked_div(row).unwrap_or(0);
        for t in 0..steps {
            let here = t * row..(t + 1) * row;
            if t > 0 {
                m.d_h.copy_from_slice(&d_features[(t - 1) * row..t * row]);
                forget(&mut m.d_h, &past.starts[t * row / w..(t + 1) * row / w], w);
            }
            self.gru().tangent(
                (&params[unit..self.len()], &tangent[unit..self.len()]),
                (&m.e[here.clone()], &m.before[here.clone()]),
                &m.steps[t],
                (&m.d_e[here.clone()], &m.d_h),
                &mut m.room,
                &mut d_features[here],
            );
        }
    }

    /// Saves the parameters `[P]`, named and shaped by part.
    pub fn save(self, params: &[f32], name: &str, state: &mut State) {
        let mut start = 0;
        for (part, shape) in self.parts() {
            let end = start + shape.iter().product::<usize>();
            state.put(&format!("{name}.{part}"), Array::F32(shape, params[start..end].to_vec()));
            start = end;
        }
    }

    /// The parameters that [`Self::save`] wrote, added to `params`.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(self, name: &str, state: &State, params: &mut Vec<f32>) -> Result<(), StateError> {
        for (part, shape) in self.parts() {
            params.extend_from_slice(state.f32(&format!("{name}.{part}"), shape.iter().product())?);
        }
        Ok(())
    }
}

/// Clears the rows of `memory` `[N, width]` whose episode begins.
pub fn forget(memory: &mut [f32], starts: &[bool], width: usize) {
    let rows = memory.chunks_exact_mut(width).zip(starts);
    rows.filter(|(_, start)| **start).for_each(|(row, _)| row.fill(0.0));
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::super::gru::tests::textbook;
    use super::super::testing::{close, normals};
    use super::*;

    const SHAPE: Recurrence = Recurrence { inputs: 3, width: 4 };
    const COPIES: usize = 2;
    const STEPS: usize = 5;

    fn starts() -> Vec<bool> {
        // Copy 0 begins at 0 and 3, copy 1 at 2.
        (0..STEPS * COPIES).map(|i| [0, 5, 6].contains(&i)).collect()
    }

    /// All h in `f64`, copy by copy, the textbook way.
    fn features(params: &[f64], obs: &[f64], memory: &[f64]) -> Vec<f64> {
        let Recurrence { inputs: i, width: w } = SHAPE;
        let mut h = memory.to_vec();
        let mut all = Vec::new();
        for (row, x) in obs.chunks_exact(i).enumerate() {
            let own = row % COPIES * w..(row % COPIES + 1) * w;
            if starts()[row] {
                h[own.clone()].fill(0.0);
            }
            let encode = |o: usize| {
                let sum: f64 = (0..i).map(|k| x[k] * params[k * w + o]).sum();
                (sum + params[i * w + o]).tanh()
            };
            let e: Vec<f64> = (0..w).map(encode).collect();
            let next = textbook(SHAPE.gru(), &params[SHAPE.unit()..], &e, &h[own.clone()]);
            h[own].copy_from_slice(&next);
            all.extend(next);
        }
        all
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|x| f64::from(*x)).collect()
    }

    #[test]
    fn passes_and_their_derivatives_are_the_textbooks() {
        const H: f64 = 1e-5;
        let params: Vec<f32> = normals(SHAPE.len(), 1).iter().map(|p| 0.5 * p).collect();
        let (obs, memory) = (normals(STEPS * COPIES * 3, 2), normals(COPIES * 4, 3));
        let (g, direction) = (normals(STEPS * COPIES * 4, 4), normals(SHAPE.len(), 5));
        let (p, x, m) = (wide(&params), wide(&obs), wide(&memory));
        let starts = starts();
        let past = Past { obs: &obs, starts: &starts, memory: &memory };
        let mut work = Memories::default();
        close(SHAPE.forward(&params, past, &mut work), &features(&p, &x, &m), 1e-5);

        let mut grad = vec![7.0; SHAPE.len()];
        SHAPE.backward(&params, past, &g, &mut work, &mut grad);
        for i in 0..SHAPE.len() {
            let at = |by: f64| -> f64 {
                let mut moved = p.clone();
                moved[i] += by;
                features(&moved, &x, &m).iter().zip(&g).map(|(h, g)| h * f64::from(*g)).sum()
            };
            close(&[grad[i]], &[(at(H) - at(-H)) / (2.0 * H)], 1e-4);
        }
        let mut along = Vec::new();
        SHAPE.tangent(&params, past, &direction, &mut work, &mut along);
        let at = |by: f64| {
            let moved: Vec<f64> = p.iter().zip(&direction).map(|(p, d)| p + by * f64::from(*d)).collect();
            features(&moved, &x, &m)
        };
        let expected: Vec<f64> = at(H).iter().zip(at(-H)).map(|(a, b)| (a - b) / (2.0 * H)).collect();
        close(&along, &expected, 1e-4);
    }

    /// What makes acting and learning agree, whatever the number of copies.
    #[test]
    fn a_step_alone_gives_the_bits_of_the_pass() {
        let params = SHAPE.init(&mut super::super::testing::rng(0));
        let (obs, first) = (normals(STEPS * COPIES * 3, 2), normals(COPIES * 4, 3));
        let starts = starts();
        let mut work = Memories::default();
        let past = Past { obs: &obs, starts: &starts, memory: &first };
        let all = SHAPE.forward(&params, past, &mut work).to_vec();
        for copy in 0..COPIES {
            let mut memory = first[copy * 4..(copy + 1) * 4].to_vec();
            let mut alone = Memories::default();
            for t in 0..STEPS {
                let row = t * COPIES + copy;
                forget(&mut memory, &starts[row..=row], 4);
                SHAPE.step(&params, &obs[row * 3..(row + 1) * 3], &mut memory, &mut alone);
                assert_eq!(memory, all[row * 4..(row + 1) * 4]);
            }
        }
    }
}
