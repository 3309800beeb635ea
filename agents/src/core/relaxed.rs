//! The actor of MADDPG: actions that a critic can be differentiated through, choices included.
//!
//! An action is encoded as the critic sees it: numbers as tanh μ in (−1, 1), each choice as a one-hot vector. For logits l and
//! Gumbel noise g, arg max (l + g) is an exact draw from softmax l, and softmax((l + g)/τ) its relaxation (E. Jang, S. Gu, B. Poole,
//! 2017, arXiv:1611.01144; C. Maddison, A. Mnih, Y. W. Teh, 2017, arXiv:1611.00712). A policy step either takes the relaxation for
//! the action, or the one-hot vector with the derivative of the relaxation (straight through). Networks compute on plain slices.

use std::ops::Range;

use rand::RngExt as _;
use rand_distr::{Distribution, StandardNormal};
use steadfast_envs::{Rng, Space, State, StateError};

use super::device::Device;
use super::kernels::{self, exp, ln};
use super::mlp::slices::Workspace;
use super::mlp::{Activation, Init, Mlp};
use super::policy::{load_parts, save_parts};
use super::weights::{Vector, Weights, apart};

/// A part of an action, and where it lies in its encoding and in the action itself.
enum Part {
    /// Numbers within bounds: centre and half width of each.
    Numbers { code: Range<usize>, action: Range<usize>, centre: Vec<f32>, half: Vec<f32> },
    /// One of several.
    Choice { code: Range<usize>, action: usize },
}

/// How an action comes from the network's outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// tanh μ, and the most likely choices.
    Best,
    /// tanh μ + σ ε for this σ, cut off at ±1, and drawn choices.
    Noisy(f32),
    /// tanh μ, and relaxed draws with this τ.
    Relaxed(f32),
    /// tanh μ, and drawn choices, differentiated as relaxed draws with this τ.
    Through(f32),
}

/// Actions at a batch of observations, with what a policy step needs again.
#[derive(Clone, Debug, Default)]
pub struct Proposal {
    /// Encoded, `[B, E]`.
    pub code: Vec<f32>,
    /// ε of numbers, g of choices, `[B, E]`.
    noise: Vec<f32>,
    /// softmax((l + g)/τ) of choices, `[B, E]`.
    soft: Vec<f32>,
    work: Workspace,
}

/// The policy network.
pub struct Relaxed {
    mlp: Mlp,
    parts: Vec<Part>,
    code_len: usize,
    action_len: usize,
    /// θ and the gradient of the loss last asked for, `[P]`.
    pub weights: Weights,
}

/// The parts of a space, from those places on; none when a number has no bounds.
fn parts(space: &Space, code: &mut usize, action: &mut usize, to: &mut Vec<Part>) -> Option<()> {
    let mut choice = |n: usize| {
        to.push(Part::Choice { code: *code..*code + n, action: *action });
        *code += n;
        *action += 1;
    };
    match space {
        Space::Discrete(n) => choice(*n),
        Space::MultiDiscrete(sizes) => sizes.iter().for_each(|n| choice(*n)),
        Space::Hybrid(spaces) => return spaces.iter().try_for_each(|s| parts(s, code, action, to)),
        Space::Box { low, high } => {
            if low.iter().chain(high).any(|x| !x.is_finite()) {
                return None;
            }
            let both = || low.iter().zip(high);
            to.push(Part::Numbers {
                code: *code..*code + low.len(),
                action: *action..*action + low.len(),
                centre: both().map(|(l, h)| 0.5 * (l + h)).collect(),
                half: both().map(|(l, h)| 0.5 * (h - l)).collect(),
            });
            *code += low.len();
            *action += low.len();
        }
    }
    Some(())
}

impl Relaxed {
    /// A policy for actions of `space` with fresh weights drawn from `rng`; none when a number of it has no bounds.
    pub fn new(
        obs_len: usize,
        space: &Space,
        hidden: &[usize],
        (activation, init): (Activation, Init),
        rng: &mut Rng,
        device: &Device,
    ) -> Option<Self> {
        let (mut all, mut code_len, mut action_len) = (Vec::new(), 0, 0);
        parts(space, &mut code_len, &mut action_len, &mut all)?;
        let mlp = Mlp::new(obs_len, hidden, code_len, activation, device);
        let weights = Weights::new(mlp.init(init, 0.01, rng), device);
        Some(Self { mlp, parts: all, code_len, action_len, weights })
    }

    /// Number of parameters, P.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of an encoded action, E.
    pub fn code_len(&self) -> usize {
        self.code_len
    }

    /// Draws fresh noise for `rows` actions.
    pub fn shake(&self, rows: usize, rng: &mut Rng, p: &mut Proposal) {
        p.noise.resize(rows * self.code_len, 0.0);
        for row in p.noise.chunks_exact_mut(self.code_len) {
            for part in &self.parts {
                match part {
                    Part::Numbers { code, .. } => {
                        row[code.clone()].fill_with(|| StandardNormal.sample(rng));
                    }
                    Part::Choice { code, .. } => row[code.clone()].fill_with(|| gumbel(rng)),
                }
            }
        }
    }

    /// Actions at observations `[B, O]` in that form, into `p.code`; all forms but the best need noise ([`Self::shake`]).
    pub fn propose(&self, obs: &[f32], form: Form, p: &mut Proposal) {
        let Vector::Host(params) = &self.weights.params else { apart() };
        let Proposal { code, noise, soft, work } = p;
        code.clear();
        code.extend_from_slice(self.mlp.forward_slices(params, obs, work));
        soft.resize(code.len(), 0.0);
        let e = self.code_len;
        for (i, row) in code.chunks_exact_mut(e).enumerate() {
            for part in &self.parts {
                match part {
                    Part::Numbers { code, .. } => {
                        kernels::tanh(&mut row[code.clone()]);
                        if let Form::Noisy(sigma) = form {
                            let noise = &noise[i * e..(i + 1) * e][code.clone()];
                            row[code.clone()]
                                .iter_mut()
                                .zip(noise)
                                .for_each(|(a, eps)| *a = (*a + sigma * eps).clamp(-1.0, 1.0));
                        }
                    }
                    Part::Choice { code, .. } => {
                        let row = &mut row[code.clone()];
                        if form != Form::Best {
                            let noise = &noise[i * e..(i + 1) * e][code.clone()];
                            row.iter_mut().zip(noise).for_each(|(l, g)| *l += g);
                        }
                        if let Form::Relaxed(tau) | Form::Through(tau) = form {
                            softmax(row, tau, &mut soft[i * e..(i + 1) * e][code.clone()]);
                        }
                        match form {
                            Form::Relaxed(_) => row.copy_from_slice(&soft[i * e..(i + 1) * e][code.clone()]),
                            _ => one_hot(row),
                        }
                    }
                }
            }
        }
    }

    /// Uniformly random actions, encoded, into `p.code`.
    pub fn uniform(&self, rows: usize, rng: &mut Rng, p: &mut Proposal) {
        p.code.clear();
        p.code.resize(rows * self.code_len, 0.0);
        for row in p.code.chunks_exact_mut(self.code_len) {
            for part in &self.parts {
                match part {
                    Part::Numbers { code, .. } => {
                        row[code.clone()].fill_with(|| rng.random_range(-1.0..1.0));
                    }
                    Part::Choice { code, .. } => {
                        row[code.start + rng.random_range(0..code.len() as u32) as usize] = 1.0;
                    }
                }
            }
        }
    }

    /// Writes encoded actions `[B, E]` in the environment's units to columns `at` of `out`, whose rows have `width` numbers.
    pub fn decode(&self, code: &[f32], out: &mut [f32], at: Range<usize>, width: usize) {
        debug_assert_eq!(at.len(), self.action_len);
        for (row, out) in code.chunks_exact(self.code_len).zip(out.chunks_exact_mut(width)) {
            let out = &mut out[at.clone()];
            for part in &self.parts {
                match part {
                    Part::Numbers { code, action, centre, half } => {
                        let numbers = row[code.clone()].iter().zip(centre).zip(half);
                        out[action.clone()]
                            .iter_mut()
                            .zip(numbers)
                            .for_each(|(a, ((x, c), h))| *a = c + h * x);
                    }
                    Part::Choice { code, action } => out[*action] = most(&row[code.clone()]) as f32,
                }
            }
        }
    }

    /// After [`Self::propose`] at `obs` in form relaxed or through: the gradient of −mean(q) + `penalty` · mean(outputs²), where
    /// `slopes` `[B, E]` is the derivative of q with respect to the encoded action. Returns the mean of the squared outputs.
    pub fn grad(&mut self, obs: &[f32], p: &mut Proposal, slopes: &[f32], form: Form, penalty: f64) -> f64 {
        let (Vector::Host(params), Vector::Host(grad)) = (&self.weights.params, &mut self.weights.grad)
        else {
            apart()
        };
        let Proposal { code, soft, work, .. } = p;
        let (outputs, d_outputs) = work.outputs();
        let e = self.code_len;
        assert_eq!((slopes.len(), code.len()), (outputs.len(), outputs.len()));
        let share = 1.0 / (outputs.len() / e).max(1) as f32;
        let inverse = match form {
            Form::Relaxed(tau) | Form::Through(tau) => 1.0 / tau,
            _ => 0.0,
        };
        for (i, d_row) in d_outputs.chunks_exact_mut(e).enumerate() {
            let row = i * e..(i + 1) * e;
            let (a, y, s) = (&code[row.clone()], &soft[row.clone()], &slopes[row]);
            for part in &self.parts {
                match part {
                    Part::Numbers { code, .. } => {
                        code.clone().for_each(|k| d_row[k] = -share * s[k] * (1.0 - a[k] * a[k]));
                    }
                    Part::Choice { code, .. } => {
                        let mean: f32 = code.clone().map(|k| y[k] * s[k]).sum();
                        code.clone().for_each(|k| d_row[k] = -share * inverse * y[k] * (s[k] - mean));
                    }
                }
            }
        }
        let weight = (2.0 * penalty / outputs.len().max(1) as f64) as f32;
        let mut squares = 0.0;
        for (d, x) in d_outputs.iter_mut().zip(outputs) {
            *d += weight * x;
            squares += f64::from(*x).powi(2);
        }
        let mean = squares / outputs.len().max(1) as f64;
        self.mlp.vjp_slices(params, obs, work, grad);
        mean
    }

    /// Moves the parameters towards those of `other` by a share τ of the way.
    pub fn track(&mut self, other: &Self, tau: f64) {
        let (Vector::Host(params), Vector::Host(other)) = (&mut self.weights.params, &other.weights.params)
        else {
            apart()
        };
        kernels::mix(params, other, tau as f32);
    }

    /// Saves the weights, named and shaped by layer.
    pub fn save(&self, name: &str, state: &mut State) {
        save_parts(&self.mlp.parts(), &self.weights.to_host(), name, state);
    }

    /// Restores the weights.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        self.weights.set(load_parts(&self.mlp.parts(), name, state)?);
        Ok(())
    }
}

/// −ln(−ln u), u uniform in (0, 1).
fn gumbel(rng: &mut Rng) -> f32 {
    let u = rng.random::<f32>().clamp(f32::MIN_POSITIVE, 1.0 - f32::EPSILON);
    -ln(-ln(u))
}

/// softmax(x/τ)
fn softmax(x: &[f32], tau: f32, out: &mut [f32]) {
    let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for (y, x) in out.iter_mut().zip(x) {
        *y = exp((x - most) / tau);
        total += *y;
    }
    out.iter_mut().for_each(|y| *y /= total);
}

/// The first of the greatest.
fn most(x: &[f32]) -> usize {
    (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

fn one_hot(x: &mut [f32]) {
    let best = most(x);
    x.fill(0.0);
    x[best] = 1.0;
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::super::testing::{close, normals, rng};
    use super::*;

    const OBS: usize = 3;
    const ROWS: usize = 6;
    const TAU: f32 = 0.7;

    fn space() -> Space {
        let low = vec![-2.0, 0.0];
        Space::Hybrid(vec![
            Space::MultiDiscrete(vec![3, 2]),
            Space::Box { low, high: vec![2.0, 10.0] },
            Space::Discrete(4),
        ])
    }

    fn actor() -> Relaxed {
        let shape = (Activation::Tanh, Init::Orthogonal);
        let mut actor = Relaxed::new(OBS, &space(), &[8], shape, &mut rng(0), &Device::cpu()).unwrap();
        actor.weights.set(normals(actor.len(), 1).iter().map(|x| 0.6 * x).collect());
        actor
    }

    /// The relaxed action, by hand in `f64`, from the network's outputs and the noise.
    fn relaxed(outputs: &[f64], noise: &[f32]) -> Vec<f64> {
        let mut code = Vec::new();
        let soft = |range: Range<usize>| {
            let l: Vec<f64> =
                range.map(|k| ((outputs[k] + f64::from(noise[k])) / f64::from(TAU)).exp()).collect();
            let total: f64 = l.iter().sum();
            l.into_iter().map(move |x| x / total).collect::<Vec<f64>>()
        };
        code.extend(soft(0..3));
        code.extend(soft(3..5));
        code.extend(outputs[5..7].iter().map(|x| x.tanh()));
        code.extend(soft(7..11));
        code
    }

    /// Of a q that is linear in the action, against differences of the relaxed action; straight through the derivative is the same,
    /// the action a vertex.
    #[test]
    fn the_gradient_goes_through_relaxed_choices() {
        let mut actor = actor();
        let (obs, slopes) = (normals(ROWS * OBS, 2), normals(ROWS * 11, 3));
        let mut p = Proposal::default();
        actor.shake(ROWS, &mut rng(4), &mut p);
        let noise = p.noise.clone();
        let loss = |actor: &Relaxed| {
            let Vector::Host(params) = &actor.weights.params else { panic!("host") };
            let mut work = Workspace::default();
            let outputs: Vec<f64> =
                actor.mlp.forward_slices(params, &obs, &mut work).iter().map(|x| f64::from(*x)).collect();
            let squares = outputs.iter().map(|x| x * x).sum::<f64>() / outputs.len() as f64;
            let q: f64 = (0..ROWS)
                .flat_map(|i| relaxed(&outputs[i * 11..(i + 1) * 11], &noise[i * 11..(i + 1) * 11]))
                .zip(&slopes)
                .map(|(a, s)| a * f64::from(*s))
                .sum();
            -q / ROWS as f64 + 0.3 * squares
        };
        actor.propose(&obs, Form::Relaxed(TAU), &mut p);
        let mean = actor.grad(&obs, &mut p, &slopes, Form::Relaxed(TAU), 0.3);
        let soft = actor.weights.grad_to_host();
        assert!(mean > 0.01);
        actor.propose(&obs, Form::Through(TAU), &mut p);
        assert!(p.code.chunks(11).all(|a| a[..3].iter().sum::<f32>() == 1.0 && a[..3].contains(&1.0)));
        actor.grad(&obs, &mut p, &slopes, Form::Through(TAU), 0.3);
        assert_eq!(actor.weights.grad_to_host(), soft);
        let params = actor.weights.to_host();
        for k in (0..actor.len()).step_by(3) {
            let mut at = |h: f32| {
                let mut moved = params.clone();
                moved[k] += h;
                actor.weights.set(moved);
                loss(&actor)
            };
            close(&[soft[k]], &[(at(1e-2) - at(-1e-2)) / 2e-2], 2e-3);
        }
    }

    /// Draws follow softmax l; a small τ draws the relaxation to a vertex; the best is the most likely.
    #[test]
    fn choices_are_drawn_from_the_softmax() {
        let actor = actor();
        let obs = [0.3, -0.8, 0.5].repeat(20_000);
        let mut p = Proposal::default();
        actor.shake(20_000, &mut rng(5), &mut p);
        actor.propose(&obs, Form::Noisy(0.1), &mut p);
        let drawn = p.code.clone();
        let mut work = Workspace::default();
        let Vector::Host(params) = &actor.weights.params else { panic!("host") };
        let logits = actor.mlp.forward_slices(params, &obs[..3], &mut work)[7..11].to_vec();
        let mut expected = [0.0; 4];
        softmax(&logits, 1.0, &mut expected);
        for k in 0..4 {
            let share = drawn.chunks(11).filter(|a| a[7 + k] == 1.0).count() as f64 / 20_000.0;
            let q = f64::from(expected[k]);
            assert!((share - q).abs() < 5.0 * (q * (1.0 - q) / 20_000.0).sqrt(), "{k}: {share}, {q}");
        }
        // Numbers: centre tanh μ, deviation σ.
        let mean = drawn.chunks(11).map(|a| f64::from(a[5])).sum::<f64>() / 20_000.0;
        actor.propose(&obs, Form::Best, &mut p);
        assert!((mean - f64::from(p.code[5])).abs() < 5e-3, "{mean}, {}", p.code[5]);
        assert_eq!(p.code[7 + most(&logits)], 1.0);
        actor.propose(&obs, Form::Relaxed(1e-3), &mut p);
        let near =
            p.code.chunks(11).zip(drawn.chunks(11)).filter(|(a, b)| (a[7] - b[7]).abs() < 1e-3).count();
        assert!(near > 19_800, "{near}");
    }

    #[test]
    fn decoded_actions_are_those_of_the_space() {
        let actor = actor();
        let mut p = Proposal::default();
        actor.uniform(500, &mut rng(6), &mut p);
        let mut out = vec![7.0; 500 * 6];
        actor.decode(&p.code, &mut out, 1..6, 6);
        let mut seen = [0; 4];
        for row in out.chunks(6) {
            let action: Vec<f64> = row[1..].iter().map(|x| f64::from(*x)).collect();
            assert!(space().contains(&action) && row[0] == 7.0, "{row:?}");
            seen[action[4] as usize] += 1;
        }
        assert!(seen.iter().all(|n| *n > 90), "{seen:?}");
        let limits = out.chunks(6).fold((9.0f32, 0.0f32), |(a, b), r| (a.min(r[4]), b.max(r[4])));
        assert!(limits.0 < 0.5 && limits.1 > 9.5, "{limits:?}");
        let endless = Space::uniform(1, f32::NEG_INFINITY, f32::INFINITY);
        let shape = (Activation::Tanh, Init::Orthogonal);
        assert!(Relaxed::new(OBS, &endless, &[8], shape, &mut rng(0), &Device::cpu()).is_none());
    }
}
