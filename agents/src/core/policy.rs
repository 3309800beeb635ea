//! The stochastic policy and the state-value function: a network each, on one flat parameter vector.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use steadfast_envs::state::Array;
use steadfast_envs::{Rng, State, StateError};

use super::device::{Device, to_host};
use super::dist::{Dist, Head};
use super::mlp::{Activation, Init, Mlp, Pass};

/// Shape and initial weights of the policy and value networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Net {
    /// Sizes of the hidden layers, of the policy and of the value network.
    pub hidden: Vec<usize>,
    /// Nonlinearity after each hidden layer: `tanh` or `relu`.
    pub activation: Activation,
    /// Initial weights: `orthogonal` (gain √2; 0.01 for the policy's outputs, 1 for the value) or `xavier`.
    pub init: Init,
    /// ln σ₀: initial log standard deviation of Gaussian actions, in units of the action.
    pub log_std_init: f64,
}

impl Default for Net {
    fn default() -> Self {
        Self { hidden: vec![64, 64], activation: Activation::Tanh, init: Init::Orthogonal, log_std_init: 0.0 }
    }
}

/// A policy network with its action distribution. Parameters: the network's, then the log-stds.
pub struct Policy {
    mlp: Mlp,
    head: Head,
    device: Device,
    params: Tensor<1>,
    /// Copy of the parameters for acting, refreshed once an iteration.
    host: Vec<f32>,
}

impl Policy {
    /// A policy with fresh weights drawn from `rng`.
    pub fn new(head: Head, obs_len: usize, net: &Net, rng: &mut Rng, device: &Device) -> Self {
        let mlp = Mlp::new(obs_len, &net.hidden, head.outputs(), net.activation, device);
        let mut host = mlp.init(net.init, 0.01, rng);
        host.extend(std::iter::repeat_n(net.log_std_init as f32, head.extra_params()));
        Self { params: device.vector(host.clone()), mlp, head, device: device.clone(), host }
    }

    /// Number of parameters, P.
    pub fn len(&self) -> usize {
        self.mlp.len() + self.head.extra_params()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The action distribution's kind.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Current parameters θ, `[P]`.
    pub fn params(&self) -> Tensor<1> {
        self.params.clone()
    }

    /// Replaces θ; acting goes on with the old parameters until [`Self::refresh`].
    pub fn set_params(&mut self, params: Tensor<1>) {
        self.params = params;
    }

    /// Uploads a vector to where θ lives.
    pub fn vector(&self, values: Vec<f32>) -> Tensor<1> {
        self.device.vector(values)
    }

    /// Downloads θ for acting.
    pub fn refresh(&mut self) {
        self.host = to_host(self.params.clone());
    }

    /// π_θ(·|s) for observations `[B, O]`, off the autodiff graph.
    pub fn dist(&self, obs: &Tensor<2>) -> Dist {
        self.dist_at(&self.params, obs)
    }

    /// π(·|s) under other parameters `[P]`.
    pub fn dist_at(&self, params: &Tensor<1>, obs: &Tensor<2>) -> Dist {
        self.head.dist(self.mlp.forward(params, obs.clone()).0, self.extra(params))
    }

    /// ∇_θ of `loss` `[P]`, a scalar function of π_θ(·|s) at observations `[B, O]`.
    pub fn grad(&self, obs: &Tensor<2>, loss: impl FnOnce(&Dist) -> Tensor<1>) -> Tensor<1> {
        let (outputs, pass) = self.mlp.forward(&self.params, obs.clone());
        let outputs = outputs.autodiff().require_grad(); // [B, K]
        let extra = self.extra(&self.params).map(|e| e.autodiff().require_grad()); // [1, E]
        let gradients = loss(&self.head.dist(outputs.clone(), extra.clone())).backward();
        let zeros = |t: &Tensor<2>| t.clone().inner().zeros_like();
        let d_outputs = outputs.grad(&gradients).unwrap_or_else(|| zeros(&outputs));
        let d_extra = extra.map(|e| e.grad(&gradients).unwrap_or_else(|| zeros(&e)));
        self.vjp(&pass, d_outputs, d_extra)
    }

    /// A linear map v ↦ (F + damping·I) v with F = mean over observations of Jᵀ M J, the Fisher
    /// matrix of π_θ (M of the distribution, J the network's Jacobian): one tangent pass, one backward
    /// pass, no second derivatives.
    pub fn fisher_product(&self, obs: Tensor<2>, damping: f64) -> impl Fn(&[f64]) -> Vec<f64> {
        let batch = obs.dims()[0] as f64;
        let (outputs, pass) = self.mlp.forward(&self.params, obs);
        let dist = self.head.dist(outputs, self.extra(&self.params));
        move |v| {
            let tangent = self.device.vector(v.iter().map(|v| *v as f32).collect());
            let d_outputs = self.mlp.jvp(&self.params, &pass, &tangent); // J v, [B, K]
            let (m_outputs, m_extra) = dist.fisher(d_outputs, self.extra(&tangent)); // M J v
            let product = to_host(self.vjp(&pass, m_outputs, m_extra)); // Jᵀ M J v
            product.iter().zip(v).map(|(f, v)| f64::from(*f) / batch + damping * v).collect()
        }
    }

    /// Mean standard deviation of Gaussian actions.
    pub fn action_std(&self) -> Option<f64> {
        let stds = self.host[self.mlp.len()..].iter().map(|l| f64::from(*l).exp());
        let n = stds.len();
        (n > 0).then(|| stds.sum::<f64>() / n as f64)
    }

    /// Samples actions `[rows, action_len]` on the host for observations `[rows, O]`; `noise` `[rows, E]` holds standard
    /// normal numbers.
    pub fn sample(
        &self,
        obs: &[f32],
        noise: &[f32],
        rng: &mut Rng,
        scratch: &mut Scratch,
        actions: &mut [f32],
    ) {
        let Scratch { out, work } = scratch;
        self.mlp.infer(&self.host, obs, out, work);
        let (k, e) = (self.head.outputs(), self.head.extra_params());
        let log_std = &self.host[self.mlp.len()..];
        for (i, action) in actions.chunks_exact_mut(self.head.action_len()).enumerate() {
            self.head.sample(&out[i * k..(i + 1) * k], log_std, &noise[i * e..(i + 1) * e], rng, action);
        }
    }

    /// The most likely actions `[rows, action_len]` for observations `[rows, O]`.
    pub fn greedy(&self, obs: &[f32], scratch: &mut Scratch, actions: &mut [f32]) {
        let Scratch { out, work } = scratch;
        self.mlp.infer(&self.host, obs, out, work);
        let rows = out.chunks_exact(self.head.outputs());
        for (row, action) in rows.zip(actions.chunks_exact_mut(self.head.action_len())) {
            self.head.greedy(row, action);
        }
    }

    /// Saves the weights, named and shaped by layer.
    pub fn save(&self, name: &str, state: &mut State) {
        let params = to_host(self.params.clone());
        save_parts(&self.mlp, &params, name, state);
        if self.head.extra_params() > 0 {
            state.put_f32(&format!("{name}.log_std"), &params[self.mlp.len()..]);
        }
    }

    /// Restores the weights.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        let mut params = load_parts(&self.mlp, name, state)?;
        if self.head.extra_params() > 0 {
            params.extend_from_slice(state.f32(&format!("{name}.log_std"), self.head.extra_params())?);
        }
        self.params = self.device.vector(params.clone());
        self.host = params;
        Ok(())
    }

    fn extra(&self, params: &Tensor<1>) -> Option<Tensor<2>> {
        let n = self.head.extra_params();
        (n > 0).then(|| params.clone().narrow(0, self.mlp.len(), n).reshape([1, n]))
    }

    fn vjp(&self, pass: &Pass, d_outputs: Tensor<2>, d_extra: Option<Tensor<2>>) -> Tensor<1> {
        let grad = self.mlp.vjp(&self.params, pass, d_outputs);
        match d_extra {
            Some(d) => Tensor::cat(vec![grad, d.reshape([self.head.extra_params()])], 0),
            None => grad,
        }
    }
}

/// Buffers of host inference, kept between calls so that acting does not allocate.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    out: Vec<f32>,
    work: Vec<f32>,
}

/// The state-value function V_φ.
pub struct Critic {
    mlp: Mlp,
    device: Device,
    params: Tensor<1>,
}

impl Critic {
    /// A value function with fresh weights drawn from `rng`.
    pub fn new(obs_len: usize, net: &Net, rng: &mut Rng, device: &Device) -> Self {
        let mlp = Mlp::new(obs_len, &net.hidden, 1, net.activation, device);
        Self { params: device.vector(mlp.init(net.init, 1.0, rng)), mlp, device: device.clone() }
    }

    /// Number of parameters, P.
    pub fn len(&self) -> usize {
        self.mlp.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Current parameters φ, `[P]`.
    pub fn params(&self) -> Tensor<1> {
        self.params.clone()
    }

    /// Replaces φ.
    pub fn set_params(&mut self, params: Tensor<1>) {
        self.params = params;
    }

    /// V(s), `[B]`, for observations `[B, O]`, off the autodiff graph.
    pub fn values(&self, obs: Tensor<2>) -> Tensor<1> {
        let [batch, _] = obs.dims();
        self.mlp.forward(&self.params, obs).0.reshape([batch])
    }

    /// ∇_φ of `loss` `[P]`, a scalar function of V(s) `[B]` at observations `[B, O]`.
    pub fn grad(&self, obs: &Tensor<2>, loss: impl FnOnce(&Tensor<1>) -> Tensor<1>) -> Tensor<1> {
        let [batch, _] = obs.dims();
        let (values, pass) = self.mlp.forward(&self.params, obs.clone());
        let values = values.reshape([batch]).autodiff().require_grad(); // [B]
        let gradients = loss(&values).backward();
        let d_values = values.grad(&gradients).unwrap_or_else(|| values.clone().inner().zeros_like());
        self.mlp.vjp(&self.params, &pass, d_values.reshape([batch, 1]))
    }

    /// Saves the weights, named and shaped by layer.
    pub fn save(&self, name: &str, state: &mut State) {
        save_parts(&self.mlp, &to_host(self.params.clone()), name, state);
    }

    /// Restores the weights.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        self.params = self.device.vector(load_parts(&self.mlp, name, state)?);
        Ok(())
    }
}

fn save_parts(mlp: &Mlp, params: &[f32], name: &str, state: &mut State) {
    let mut start = 0;
    for (part, shape) in mlp.parts() {
        let end = start + shape.iter().product::<usize>();
        state.put(&format!("{name}.{part}"), Array::F32(shape, params[start..end].to_vec()));
        start = end;
    }
}

fn load_parts(mlp: &Mlp, name: &str, state: &State) -> Result<Vec<f32>, StateError> {
    let mut params = Vec::with_capacity(mlp.len());
    for (part, shape) in mlp.parts() {
        params.extend_from_slice(state.f32(&format!("{name}.{part}"), shape.iter().product())?);
    }
    Ok(params)
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::super::testing::{close, normals, params, policy, rng};
    use super::*;

    const ROWS: usize = 4;

    fn heads() -> Vec<Head> {
        let choices = |sizes: &[usize]| Head::Categorical { sizes: sizes.to_vec() };
        vec![Head::Gaussian { dim: 2 }, choices(&[3]), choices(&[2, 2])]
    }

    /// Two inputs and three hidden units: at most 30 parameters.
    fn small(head: Head) -> (Policy, Tensor<2>) {
        (policy(head, 2, &[3]), Device::cpu().matrix(normals(2 * ROWS, 9), 2))
    }

    /// Actions `[action_len]` with weights that give the expectation of every polynomial of degree 5 under
    /// π(·|s): all actions with their probabilities, or Gauss-Hermite nodes.
    fn quadrature(policy: &Policy, obs: &Tensor<2>) -> Vec<(Vec<f32>, f64)> {
        let dist = policy.dist(obs);
        // Each dimension's values with their weights; the action is centre + scale · value.
        let (options, centre, scale) = match &dist {
            Dist::Gaussian { mean, log_std } => {
                let nodes: Vec<(f32, f64)> =
                    vec![(0.0, 2.0 / 3.0), (3f32.sqrt(), 1.0 / 6.0), (-3f32.sqrt(), 1.0 / 6.0)];
                let scale: Vec<f32> = to_host(log_std.clone().exp());
                (vec![nodes; scale.len()], to_host(mean.clone()), scale)
            }
            Dist::Categorical { sizes, .. } => {
                let options = sizes.iter().map(|n| (0..*n).map(|a| (a as f32, 1.0)).collect()).collect();
                (options, vec![0.0; sizes.len()], vec![1.0; sizes.len()])
            }
        };
        let mut points = vec![(Vec::new(), 1.0)];
        for options in &options {
            let extend = |(action, weight): &(Vec<f32>, f64)| {
                let longer = |(a, w): &(f32, f64)| ([action.as_slice(), &[*a]].concat(), weight * w);
                options.iter().map(longer).collect::<Vec<_>>()
            };
            points = points.iter().flat_map(extend).collect();
        }
        for (action, weight) in &mut points {
            for d in 0..action.len() {
                action[d] = centre[d] + scale[d] * action[d];
            }
            if matches!(dist, Dist::Categorical { .. }) {
                let action = Device::cpu().matrix(action.clone(), action.len());
                *weight = f64::from(to_host(dist.log_prob(&action))[0]).exp();
            }
        }
        points
    }

    /// F by its definition: the mean over states of E[∇ln π ∇ln πᵀ], row by row.
    fn dense_fisher(policy: &Policy, obs: &Tensor<2>) -> Vec<Vec<f64>> {
        let n = policy.len();
        let mut fisher = vec![vec![0.0; n]; n];
        for row in 0..ROWS {
            let s = obs.clone().narrow(0, row, 1);
            for (action, weight) in quadrature(policy, &s) {
                let action = Device::cpu().matrix(action.clone(), action.len()).autodiff();
                let score = to_host(policy.grad(&s, |dist| dist.log_prob(&action)));
                for i in 0..n {
                    for j in 0..n {
                        fisher[i][j] += weight / ROWS as f64 * f64::from(score[i]) * f64::from(score[j]);
                    }
                }
            }
        }
        fisher
    }

    #[test]
    fn fisher_product_is_the_mean_outer_product_of_scores() {
        for head in heads() {
            let (policy, obs) = small(head);
            let fisher = dense_fisher(&policy, &obs);
            let product = policy.fisher_product(obs.clone(), 0.25);
            for i in 0..policy.len() {
                let unit: Vec<f64> = (0..policy.len()).map(|j| f64::from(u8::from(i == j))).collect();
                let mut column: Vec<f64> = fisher.iter().map(|row| row[i]).collect();
                column[i] += 0.25; // the damping
                close(&product(&unit), &column, 1e-5);
            }
        }
    }

    /// Either KL divergence curves like F around π_old.
    #[test]
    fn fisher_product_is_the_derivative_of_the_kl_gradient() {
        const H: f32 = 1e-2;
        for head in heads() {
            let (mut policy, obs) = small(head);
            let (theta, old) = (policy.params(), policy.dist(&obs).constant());
            let direction = normals(policy.len(), 3);
            let v: Vec<f64> = direction.iter().map(|x| f64::from(*x)).collect();
            let ours = policy.fisher_product(obs.clone(), 0.0)(&v);
            for old_first in [true, false] {
                let mut gradient = |h: f32| {
                    policy.set_params(theta.clone() + policy.vector(direction.clone()) * h);
                    let kl = |d: &Dist| if old_first { old.kl(d) } else { d.kl(&old) };
                    to_host(policy.grad(&obs, |dist| kl(dist).mean()))
                };
                let (ahead, behind) = (gradient(H), gradient(-H));
                let numeric: Vec<f32> = ahead.iter().zip(behind).map(|(a, b)| (a - b) / (2.0 * H)).collect();
                close(&ours, &numeric, 2e-3);
                policy.set_params(theta.clone());
            }
        }
    }

    #[test]
    fn grad_agrees_with_finite_differences() {
        const H: f32 = 1e-2;
        for head in heads() {
            let (mut policy, obs) = small(head.clone());
            let theta = params(&policy);
            let actions = Device::cpu().matrix(vec![1.0; ROWS * head.action_len()], head.action_len());
            let (actions, weights) = (actions.autodiff(), Device::cpu().vector(normals(ROWS, 4)).autodiff());
            let old = {
                let moved = theta.iter().map(|x| x + 0.1).collect();
                policy.dist_at(&policy.vector(moved), &obs).constant()
            };
            // Log-probability, entropy and KL, each of which depends on the network and on the log-std.
            let loss = |dist: &Dist| {
                (dist.log_prob(&actions) * weights.clone()).mean() + dist.entropy().mean() * 0.3
                    - dist.kl(&old).mean()
            };
            let ours = to_host(policy.grad(&obs, loss));
            let mut at = |i: usize, h: f32| {
                let mut moved = theta.clone();
                moved[i] += h;
                policy.set_params(policy.vector(moved));
                let mut value = 0.0;
                policy.grad(&obs, |dist| {
                    let l = loss(dist);
                    value = to_host(l.clone().inner())[0];
                    l
                });
                value
            };
            let numeric: Vec<f32> = (0..theta.len()).map(|i| (at(i, H) - at(i, -H)) / (2.0 * H)).collect();
            close(&ours, &numeric, 2e-3);
            assert!(ours.iter().filter(|g| g.abs() > 1e-3).count() > theta.len() / 2, "a loss that matters");
        }
    }

    #[test]
    fn the_gradient_of_a_loss_without_the_log_std_is_zero_there() {
        let (policy, obs) = small(Head::Gaussian { dim: 2 });
        let grad = to_host(policy.grad(&obs, |dist| match dist {
            Dist::Gaussian { mean, .. } => mean.clone().mean(),
            Dist::Categorical { logits, .. } => logits.clone().mean(),
        }));
        assert_eq!(grad[policy.len() - 2..], [0.0, 0.0]);
        assert!(grad.iter().any(|g| *g != 0.0));
    }

    #[test]
    fn critic_grad_agrees_with_finite_differences() {
        const H: f32 = 1e-2;
        let device = Device::cpu();
        let net = Net { hidden: vec![3], ..Net::default() };
        let mut critic = Critic::new(2, &net, &mut rng(0), &device);
        let (theta, obs) = (normals(critic.len(), 1), device.matrix(normals(2 * ROWS, 2), 2));
        let target = normals(ROWS, 3);
        critic.set_params(device.vector(theta.clone()));
        assert_eq!(critic.values(obs.clone().narrow(0, 0, 1)).dims(), [1]);
        let ours = to_host(critic.grad(&obs, |values| {
            assert_eq!(values.dims(), [ROWS]);
            (values.clone() - device.vector(target.clone()).autodiff()).square().mean()
        }));
        let mut at = |i: usize, h: f32| {
            let mut moved = theta.clone();
            moved[i] += h;
            critic.set_params(device.vector(moved));
            let values = to_host(critic.values(obs.clone()));
            values.iter().zip(&target).map(|(v, r)| (v - r) * (v - r)).sum::<f32>() / ROWS as f32
        };
        let numeric: Vec<f32> = (0..theta.len()).map(|i| (at(i, H) - at(i, -H)) / (2.0 * H)).collect();
        close(&ours, &numeric, 5e-3);
    }

    #[test]
    fn acting_on_the_host_agrees_with_the_tensors() {
        for head in heads() {
            let (policy, obs) = small(head.clone());
            let host_obs = to_host(obs.clone());
            let outputs = match policy.dist(&obs) {
                Dist::Gaussian { mean, .. } => to_host(mean),
                Dist::Categorical { logits, .. } => to_host(logits),
            };
            let log_std = params(&policy)[policy.len() - head.extra_params()..].to_vec();
            let (k, e, a) = (head.outputs(), head.extra_params(), head.action_len());
            let (mut greedy, mut sampled) = (vec![0.0; ROWS * a], vec![0.0; ROWS * a]);
            let (mut scratch, noise) = (Scratch::default(), normals(ROWS * e, 6));
            policy.greedy(&host_obs, &mut scratch, &mut greedy);
            policy.sample(&host_obs, &noise, &mut rng(5), &mut scratch, &mut sampled);
            let (mut best, mut drawn, mut rng) = (vec![0.0; ROWS * a], vec![0.0; ROWS * a], rng(5));
            for row in 0..ROWS {
                let (o, n) = (&outputs[row * k..(row + 1) * k], &noise[row * e..(row + 1) * e]);
                head.greedy(o, &mut best[row * a..(row + 1) * a]);
                head.sample(o, &log_std, n, &mut rng, &mut drawn[row * a..(row + 1) * a]);
            }
            close(&greedy, &best, 1e-5);
            close(&sampled, &drawn, 1e-5);
        }
    }

    /// Acting follows the parameters only from one refresh to the next: that is what makes π_old old.
    #[test]
    fn acting_goes_on_with_the_old_parameters_until_refreshed() {
        let (mut policy, obs) = small(Head::Gaussian { dim: 2 });
        let act = |policy: &Policy| {
            let mut actions = vec![0.0; ROWS * 2];
            policy.greedy(&to_host(obs.clone()), &mut Scratch::default(), &mut actions);
            actions
        };
        let (before, std) = (act(&policy), policy.action_std());
        policy.set_params(policy.params() + 0.5);
        assert_eq!((act(&policy), policy.action_std()), (before.clone(), std));
        policy.refresh();
        assert!(act(&policy) != before && policy.action_std() != std);
    }

    #[test]
    fn saved_weights_load_exactly_and_only_into_the_same_shape() {
        for head in heads() {
            let (policy, obs) = small(head.clone());
            let mut state = State::new();
            policy.save("policy", &mut state);
            let fresh = |hidden| {
                let net = Net { hidden, ..Net::default() };
                Policy::new(head.clone(), 2, &net, &mut rng(77), &Device::cpu())
            };
            let mut other = fresh(vec![3]);
            assert_ne!(params(&other), params(&policy));
            other.load("policy", &state).unwrap();
            assert_eq!(params(&other), params(&policy));
            let act = |policy: &Policy| {
                let mut actions = vec![0.0; ROWS * head.action_len()];
                policy.greedy(&to_host(obs.clone()), &mut Scratch::default(), &mut actions);
                actions
            };
            assert_eq!(act(&other), act(&policy), "the acting copy is loaded as well");
            assert!(fresh(vec![4]).load("policy", &state).is_err());
            assert!(other.load("elsewhere", &state).is_err());
        }
    }
}
