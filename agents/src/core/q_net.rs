//! Action values of discrete choices with one encoder: observation → [`Trunk`] → one head ([`Mlr`]) of |A| values, each a
//! number or a distribution ([`ValueHead`]).

use rand::RngExt;
use steadfast_envs::{Rng, State, StateError};

use super::adam::Adam;
use super::hyperbolic::mlr::{self, Mlr, RiemannianAdam};
use super::kernels;
use super::policy::Net;
use super::trunk::{Representation, Trunk, TrunkWork};
use super::value_head::ValueHead;
use super::weights::{Vector, Weights, apart};
use crate::{AgentError, Metrics, Setup};

/// Buffers of passes through the network.
#[derive(Clone, Debug, Default)]
pub struct QWork {
    trunk: TrunkWork,
    head: mlr::Work<f32>,
}

/// Q(s, ·) with its parameters.
#[derive(Clone)]
pub struct QNet {
    trunk: Trunk,
    head: Mlr,
    value_head: ValueHead,
    /// Euclidean parameters and the gradient of the loss last asked for, `[P]`.
    pub weights: Weights,
    /// Points of the ball and their gradient; empty for scalar offsets.
    pub points: Weights,
    work: QWork,
}

/// What a minibatch was like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Mean ½ (Q(s, a) − y)², whatever the loss.
    pub error: f64,
    /// Mean Q(s, a).
    pub q: f64,
    /// Mean length of the features.
    pub feature_norm: f64,
    /// Mean of their gate, where there is one.
    pub gate: Option<f64>,
    /// Share of the targets outside the bins.
    pub outside: f64,
}

/// The values of a vector: these networks lie in host memory.
fn host(vector: &Vector) -> &[f32] {
    let Vector::Host(values) = vector else { apart() };
    values
}

impl QNet {
    /// A network for `actions` choices with fresh weights drawn from `rng`.
    pub fn new(
        obs_len: usize,
        actions: usize,
        net: &Net,
        r: &Representation,
        rng: &mut Rng,
        setup: &Setup,
    ) -> Self {
        let (trunk, mut params) = Trunk::new(obs_len, net, &r.embedding, rng, setup);
        let value_head = r.value_head();
        let head = r.embedding.head(actions * value_head.outputs());
        params.extend(head.init(r.embedding.head_gain, rng));
        let mut network = Self {
            weights: Weights::new(params, &setup.device),
            points: Weights::new(vec![0.0; head.points_len()], &setup.device),
            trunk,
            head,
            value_head,
            work: QWork::default(),
        };
        network.settle();
        network
    }

    /// Choices, A.
    pub fn actions(&self) -> usize {
        self.head.outputs() / self.value_head.outputs()
    }

    /// Takes changed parameters over, after a step of power iteration where there is spectral normalisation.
    pub fn refresh(&mut self) {
        self.trunk.iterate(host(&self.weights.params));
        self.settle();
    }

    fn settle(&mut self) {
        self.trunk.settle(host(&self.weights.params));
    }

    fn forward(&self, obs: &[f32], work: &mut QWork) {
        let (params, points) = (host(&self.weights.params), host(&self.points.params));
        self.trunk.forward(params, obs, &mut work.trunk);
        let features = work.trunk.features().0;
        self.head.forward(&params[self.trunk.len()..], points, features, &mut work.head);
    }

    /// Q(s, ·), `[B, A]`, for observations `[B, O]`, into `q`.
    pub fn values(&self, obs: &[f32], work: &mut QWork, q: &mut Vec<f32>) {
        self.forward(obs, work);
        q.clear();
        let rows = work.head.outputs().0.chunks_exact(self.value_head.outputs());
        q.extend(rows.map(|y| self.value_head.value(y)));
    }

    /// The same with buffers of its own.
    pub fn evaluate(&mut self, obs: &[f32], q: &mut Vec<f32>) {
        let mut work = std::mem::take(&mut self.work);
        self.values(obs, &mut work, q);
        self.work = work;
    }

    /// The mean loss of Q(s, a) against `targets` `[B]` for the `actions` `[B]` taken at `obs` `[B, O]`; its gradient goes to
    /// [`Self::weights`] and [`Self::points`]. Half the squared error where Q is one number, with a slope of
    /// ±`error_clip` at most unless that is 0; else the cross-entropy.
    pub fn grad(&mut self, obs: &[f32], actions: &[f32], targets: &[f32], error_clip: f64) -> (f64, Fit) {
        let mut work = std::mem::take(&mut self.work);
        self.forward(obs, &mut work);
        let (a, k) = (self.actions(), self.value_head.outputs());
        let share = 1.0 / targets.len().max(1) as f32;
        // The head's squared error has no ½.
        let weight = if k == 1 { 0.5 * share } else { share };
        let steepest = if k == 1 && error_clip > 0.0 { error_clip as f32 * share } else { f32::INFINITY };
        let (outputs, d_outputs) = work.head.outputs();
        d_outputs.fill(0.0);
        let (mut loss, mut square, mut sum, mut outside) = (0.0, 0.0, 0.0, 0.0);
        for (b, (action, y)) in actions.iter().zip(targets).enumerate() {
            let first = (b * a + (*action as usize).min(a - 1)) * k;
            let (outputs, d) = (&outputs[first..first + k], &mut d_outputs[first..first + k]);
            let q = f64::from(self.value_head.value(outputs));
            let error = q - f64::from(*y);
            sum += q;
            square += 0.5 * error * error;
            outside += f64::from(u8::from(self.value_head.is_outside(*y)));
            loss += f64::from(self.value_head.loss(outputs, *y, weight, d));
            if d[0].abs() > steepest {
                // Huber: the parabola goes on as its tangent.
                let clip = f64::from(steepest / share);
                loss -= f64::from(share) * 0.5 * (error.abs() - clip).powi(2);
                d[0] = d[0].clamp(-steepest, steepest);
            }
        }
        let (Vector::Host(params), Vector::Host(grad), Vector::Host(points), Vector::Host(d_points)) =
            (&self.weights.params, &mut self.weights.grad, &self.points.params, &mut self.points.grad)
        else {
            apart()
        };
        let (v, d_v) = work.trunk.features();
        d_v.fill(0.0);
        let t = self.trunk.len();
        self.head.backward(&params[t..], points, v, &mut work.head, &mut grad[t..], d_points, d_v);
        self.trunk.backward(params, obs, &mut work.trunk, grad);
        let n = f64::from(share);
        let (feature_norm, gate) = work.trunk.means();
        self.work = work;
        (loss, Fit { error: square * n, q: sum * n, feature_norm, gate, outside: outside * n })
    }

    /// One step down the gradient; points of the ball along geodesics.
    pub fn step(&mut self, adam: &mut Adam, points_adam: &mut RiemannianAdam, lr: f64) {
        adam.step(&mut self.weights, lr);
        if let (Vector::Host(points), Vector::Host(grad)) = (&mut self.points.params, &self.points.grad) {
            points_adam.step(points, grad, lr);
        }
        self.refresh();
    }

    /// Moves the parameters towards those of `other` by a share τ of the way.
    pub fn track(&mut self, other: &Self, tau: f64) {
        let pairs = [(&mut self.weights, &other.weights), (&mut self.points, &other.points)];
        for (ours, theirs) in pairs {
            let (Vector::Host(ours), Vector::Host(theirs)) = (&mut ours.params, &theirs.params) else {
                apart()
            };
            if tau == 1.0 { ours.copy_from_slice(theirs) } else { kernels::mix(ours, theirs, tau as f32) }
        }
        self.trunk.follow(&other.trunk);
        self.settle();
    }

    /// Saves the weights by part, under `name`.
    pub fn save(&self, name: &str, state: &mut State) {
        let params = host(&self.weights.params);
        self.trunk.save(params, name, state);
        state.put_f32(&format!("{name}.head"), &params[self.trunk.len()..]);
        state.put_f32(&format!("{name}.points"), host(&self.points.params));
    }

    /// Restores the weights.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        let mut params = self.trunk.load(name, state)?;
        params.extend_from_slice(state.f32(&format!("{name}.head"), self.head.len())?);
        self.weights.set(params);
        self.points.set(state.f32(&format!("{name}.points"), self.points.len())?.to_vec());
        self.settle();
        Ok(())
    }
}

/// The best of each row of `q` `[N, A]`, the first of equals; with probability `epsilon` any of them.
pub fn choose(q: &[f32], epsilon: f64, rng: &mut Rng, actions: &mut [f32]) {
    let a = q.len() / actions.len().max(1);
    for (row, action) in q.chunks_exact(a).zip(actions) {
        let chance = epsilon > 0.0 && rng.random::<f64>() < epsilon;
        *action = if chance { rng.random_range(0..a) } else { best(row) } as f32;
    }
}

/// The first of the largest.
pub fn best(row: &[f32]) -> usize {
    (0..row.len()).rev().max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0)
}

/// Sums over the gradient steps of an iteration.
#[derive(Default)]
pub struct Tally {
    steps: f64,
    skipped: f64,
    grad_norm: f64,
    error: f64,
    q: f64,
    feature_norm: f64,
    gate: Option<f64>,
    outside: f64,
}

impl Tally {
    /// Counts a gradient step with its gradient's norm; one that is not finite was left out.
    pub fn add(&mut self, fit: &Fit, norm: f64) {
        if !norm.is_finite() {
            self.skipped += 1.0;
            return;
        }
        self.steps += 1.0;
        self.grad_norm += norm;
        self.error += fit.error;
        self.q += fit.q;
        self.feature_norm += fit.feature_norm;
        self.gate = fit.gate.map(|gate| gate + self.gate.unwrap_or(0.0));
        self.outside += fit.outside;
    }

    /// Means over the steps, at `step` of the environment.
    ///
    /// # Errors
    /// When one of them is not finite, or no gradient was.
    pub fn metrics(&self, lr: f64, step: u64) -> Result<Metrics, AgentError> {
        if self.steps == 0.0 && self.skipped > 0.0 {
            return Err(AgentError::NonFinite { what: "every gradient of an iteration", step });
        }
        let mean = |sum: f64| (self.steps > 0.0).then(|| sum / self.steps);
        Metrics {
            learning_rate: Some(lr),
            skipped_updates: Some(self.skipped),
            grad_norm: mean(self.grad_norm),
            value_loss: mean(self.error),
            q: mean(self.q),
            feature_norm: mean(self.feature_norm),
            gate: self.gate.and_then(mean),
            returns_outside: mean(self.outside),
            ..Metrics::default()
        }
        .finite(step)
    }
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::super::features::{Norm, Scale};
    use super::super::hyperbolic::mlr::Geometry;
    use super::super::mlp::Activation;
    use super::super::testing::{arm, close, normals, rng};
    use super::super::value_head::ValueLoss;
    use super::*;
    use crate::Device;
    use steadfast_envs::make;

    fn network(representation: &Representation, index: u64) -> QNet {
        let task = make("CartPole-v1").unwrap();
        let setup = Setup { spec: task.spec(), seed: 0, total_steps: 1, device: Device::cpu() };
        let net = Net { hidden: vec![5], activation: Activation::Tanh, ..Net::default() };
        let mut network = QNet::new(3, 3, &net, representation, &mut rng(index), &setup);
        // All of order one, so that no derivative hides near zero.
        network.weights.set(normals(network.weights.len(), 1 + index).iter().map(|x| 0.4 * x).collect());
        network.points.set(normals(network.points.len(), 2 + index).iter().map(|x| 0.1 * x).collect());
        (0..300).for_each(|_| network.refresh());
        network
    }

    fn arms() -> Vec<Representation> {
        use Geometry::{Ball, BallPoints, Euclidean, Hyperboloid};
        let arms = [
            (Norm::None, Scale::None, Euclidean, ValueLoss::Squared),
            (Norm::Rms, Scale::Gate, Hyperboloid, ValueLoss::HlGauss),
            (Norm::Spectral, Scale::Root, BallPoints, ValueLoss::Squared),
            (Norm::Layer, Scale::Clip, Ball, ValueLoss::TwoHot),
        ];
        arms.into_iter().map(arm).collect()
    }

    const ROWS: usize = 8;

    /// Every part of the chain, every loss, with and without clipped errors: against finite differences.
    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let obs = normals(3 * ROWS, 3);
        let actions: Vec<f32> = (0..ROWS).map(|i| (i % 3) as f32).collect();
        let targets: Vec<f32> = normals(ROWS, 4).iter().map(|y| 1.5 * y).collect();
        for (arm, clip) in arms().into_iter().flat_map(|arm| [(arm.clone(), 0.0), (arm, 0.7)]) {
            let mut net = network(&arm, 0);
            let (_, fit) = net.grad(&obs, &actions, &targets, clip);
            let ours = [net.weights.grad_to_host(), net.points.grad_to_host()];
            let start = [net.weights.to_host(), net.points.to_host()];
            let mut loss = |params: &[Vec<f32>; 2]| {
                net.weights.set(params[0].clone());
                net.points.set(params[1].clone());
                net.settle();
                net.grad(&obs, &actions, &targets, clip).0
            };
            let size = ours.iter().flatten().fold(0.1f64, |m, x| m.max(f64::from(x.abs())));
            let h = 2e-3f32;
            for (part, ours) in ours.iter().enumerate() {
                for i in 0..ours.len() {
                    let mut at = |h: f32| {
                        let mut moved = start.clone();
                        moved[part][i] += h;
                        loss(&moved)
                    };
                    let numeric = (at(h) - at(-h)) / f64::from(2.0 * h);
                    let error = (f64::from(ours[i]) - numeric).abs();
                    assert!(error < 1e-2 * size, "{arm:?} {clip} {part} {i}: {}, not {numeric}", ours[i]);
                }
            }
            // The numbers that are reported, from the values themselves.
            let mut net = network(&arm, 0);
            let mut q = Vec::new();
            net.evaluate(&obs, &mut q);
            let chosen: Vec<f64> = (0..ROWS).map(|b| f64::from(q[3 * b + b % 3])).collect();
            let mean = |f: &dyn Fn(usize) -> f64| (0..ROWS).map(f).sum::<f64>() / ROWS as f64;
            let error = mean(&|b| 0.5 * (chosen[b] - f64::from(targets[b])).powi(2));
            close(&[fit.q, fit.error], &[mean(&|b| chosen[b]), error], 1e-5);
        }
    }

    /// Halfway, then all the way; what is saved is what is loaded.
    #[test]
    fn a_target_follows_and_a_loaded_network_computes_the_same() {
        let obs = normals(3 * ROWS, 3);
        for arm in arms() {
            let (mut target, mut online) = (network(&arm, 0), network(&arm, 7));
            let before = target.weights.to_host();
            target.track(&online, 0.5);
            let half: Vec<f32> =
                before.iter().zip(online.weights.to_host()).map(|(a, b)| 0.5 * (a + b)).collect();
            close(&target.weights.to_host(), &half, 1e-6);
            target.track(&online, 1.0);
            let values = |net: &mut QNet| {
                let mut q = Vec::new();
                net.evaluate(&obs, &mut q);
                q
            };
            let wanted = values(&mut online);
            assert_eq!(values(&mut target), wanted);
            let mut state = State::new();
            online.save("policy", &mut state);
            let mut loaded = network(&arm, 11);
            assert_ne!(values(&mut loaded), wanted);
            loaded.load("policy", &state).unwrap();
            assert_eq!(values(&mut loaded), wanted);
        }
    }
}
