//! The common part of networks with hyperbolic heads: observation → encoder ([`Mlp`]) → [`Features`], and the options of
//! all of it. On slices all derivatives are written out; on tensors autodiff finds them.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use steadfast_envs::state::Array;
use steadfast_envs::{Rng, State, StateError};

use super::device::Device;
use super::features::{self, Features, Norm, Scale, Squash};
use super::hyperbolic::mlr::{Geometry, Mlr};
use super::mlp::Mlp;
use super::mlp::slices::Workspace;
use super::policy::{Net, load_parts, save_parts};
use super::spectral::Spectral;
use super::value_head::{ValueHead, ValueLoss};
use crate::config::{bad, positive, size, within};
use crate::{BuildError, Setup};

/// Steps of power iteration on the initial weights.
const WARM_UP: usize = 15;

/// Features and the space that they lie in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// d: number of features. Paper: 32 on ProcGen, 512 on Atari. Below 4, RMSNorm leaves hardly any freedom (a point of
    /// a circle for d = 2).
    pub features: usize,
    /// Norm of the encoder's outputs: `rms`, `layer`, `spectral` (of every layer of the encoder) or `none`. Paper: `rms`.
    pub norm: Norm,
    /// Nonlinearity after the norm: `tanh` or `relu`. Paper: `tanh` on ProcGen, `relu` on Atari.
    pub squash: Squash,
    /// Scale of the features: `gate` (1/√d and a learned gate up to ρ_max), `root` (1/√d), `clip` (to length 1) or `none`.
    /// Paper: `gate`.
    pub scale: Scale,
    /// α: with `gate`, ρ_max = artanh(α)/√c: the radius that features can reach in the ball of radius 1, in (0, 1). Paper: 0.95.
    pub alpha: f64,
    /// Factor on ρ_max: 1 as in the authors' code; 2 puts ball and hyperboloid at equal distance.
    pub radius_factor: f64,
    /// Heads: `hyperboloid` (Lorentz MLR), `ball` (HNN++), `ball-points` (offsets are points, with Riemannian Adam) or
    /// `euclidean` (linear). Paper: `hyperboloid`.
    pub geometry: Geometry,
    /// c: the space has curvature −c. Under the gate it changes logits by a factor only. Paper: 1.
    pub curvature: f64,
    /// Deviation of initial normals, times √d. Paper: 1.
    pub head_gain: f64,
}

/// Features, heads and value loss of a network with a shared encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Representation {
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub embedding: Embedding,
    /// Loss of the value: `hl-gauss`, `two-hot` or `squared`. Paper: `hl-gauss`.
    pub value_loss: ValueLoss,
    /// Bins of the value; an odd number puts one at 0. Paper: 51.
    pub bins: usize,
    /// Lower end of the bins: returns below count as this. The range relies on normalised rewards. Paper: -10.
    pub value_min: f64,
    /// Upper end of the bins. Paper: 10.
    pub value_max: f64,
    /// Deviation of HL-Gauss in widths of a bin. Paper: 0.75.
    pub sigma_ratio: f64,
}

impl Default for Embedding {
    fn default() -> Self {
        Self {
            features: 32,
            norm: Norm::Rms,
            squash: Squash::Tanh,
            scale: Scale::Gate,
            alpha: 0.95,
            radius_factor: 1.0,
            geometry: Geometry::Hyperboloid,
            curvature: 1.0,
            head_gain: 1.0,
        }
    }
}

impl Embedding {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the first key that is out of range.
    pub fn validate(&self) -> Result<(), BuildError> {
        size("features", self.features, 8192)?;
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            return Err(bad("alpha", format!("must lie between 0 and 1, both excluded, got {}", self.alpha)));
        }
        positive("radius_factor", self.radius_factor)?;
        if self.radius_factor != 1.0 && self.scale != Scale::Gate {
            return Err(bad(
                "radius_factor",
                "scales the radius of the gate: set scale = \"gate\"".to_owned(),
            ));
        }
        // A float's digits do not reach further.
        within("curvature", self.curvature, 1e-6, 1e6)?;
        positive("head_gain", self.head_gain)
    }

    /// Settings that are legal but hardly meant.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.features < 4 && self.norm != Norm::None {
            remarks.push(format!(
                "features = {}: after a norm, fewer than 4 features say hardly more than a direction",
                self.features
            ));
        }
        remarks
    }

    /// ρ_max
    pub fn bound(&self) -> f64 {
        self.radius_factor * self.alpha.atanh() / self.curvature.sqrt()
    }

    /// From outputs of an encoder to features.
    pub fn chain(&self) -> Features {
        Features {
            dim: self.features,
            norm: self.norm,
            squash: self.squash,
            scale: self.scale,
            bound: self.bound(),
        }
    }

    /// A head of `outputs` planes for the features.
    pub fn head(&self, outputs: usize) -> Mlr {
        Mlr::new(self.geometry, self.features, outputs, self.curvature)
    }
}

impl Default for Representation {
    fn default() -> Self {
        Self {
            embedding: Embedding::default(),
            value_loss: ValueLoss::HlGauss,
            bins: 51,
            value_min: -10.0,
            value_max: 10.0,
            sigma_ratio: 0.75,
        }
    }
}

impl Representation {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the first key that is out of range.
    pub fn validate(&self) -> Result<(), BuildError> {
        self.embedding.validate()?;
        within("bins", self.bins as f64, 2.0, 8192.0)?;
        within("value_min", self.value_min, -1e9, 1e9)?;
        within("value_max", self.value_max, -1e9, 1e9)?;
        if self.value_min >= self.value_max {
            return Err(bad("value_min", format!("must be below value_max, {}", self.value_max)));
        }
        positive("sigma_ratio", self.sigma_ratio)
    }

    /// What outputs of a head mean as a value.
    pub fn value_head(&self) -> ValueHead {
        ValueHead::new(self.value_loss, self.value_min, self.value_max, self.bins, self.sigma_ratio)
    }
}

/// Encoder and features: shapes and what follows from the parameters, which are the caller's. Parameters: the encoder's,
/// then the gate's.
#[derive(Clone)]
pub struct Trunk {
    encoder: Mlp,
    features: Features,
    spectral: Option<Spectral>,
    /// The encoder's weights as they act, `[P_encoder]`.
    effective: Vec<f32>,
}

/// Buffers of passes through a [`Trunk`].
#[derive(Clone, Debug, Default)]
pub struct TrunkWork {
    encoder: Workspace,
    features: features::Work<f32>,
}

impl TrunkWork {
    /// The features of the last forward pass, `[B, d]`, and room for the derivative of a loss with respect to them.
    pub fn features(&mut self) -> (&[f32], &mut [f32]) {
        self.features.features()
    }

    /// Mean length of the features of the last forward pass, and mean of their gate where there is one.
    pub fn means(&self) -> (f64, Option<f64>) {
        self.features.means()
    }
}

impl Trunk {
    /// A trunk, and its fresh parameters drawn from `rng`.
    pub fn new(
        obs_len: usize,
        net: &Net,
        embedding: &Embedding,
        rng: &mut Rng,
        setup: &Setup,
    ) -> (Self, Vec<f32>) {
        let encoder = Mlp::new(obs_len, &net.hidden, embedding.features, net.activation, &setup.device);
        let features = embedding.chain();
        let mut params = encoder.init(net.init, std::f64::consts::SQRT_2, rng);
        let spectral =
            (embedding.norm == Norm::Spectral).then(|| Spectral::new(&encoder, &params, WARM_UP, rng));
        params.extend(features.init(rng));
        (Self { encoder, features, spectral, effective: Vec::new() }, params)
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.encoder.len() + self.features.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is spectral normalisation, whose singular vectors follow the parameters in host memory.
    pub fn is_spectral(&self) -> bool {
        self.spectral.is_some()
    }

    /// One step of power iteration, where there is spectral normalisation.
    pub fn iterate(&mut self, params: &[f32]) {
        if let Some(spectral) = &mut self.spectral {
            spectral.iterate(&params[..self.encoder.len()]);
        }
    }

    /// Takes changed parameters over, without a step of power iteration.
    pub fn settle(&mut self, params: &[f32]) {
        let encoder = &params[..self.encoder.len()];
        match &mut self.spectral {
            Some(spectral) => spectral.apply(encoder, &mut self.effective),
            None => {
                self.effective.clear();
                self.effective.extend_from_slice(encoder);
            }
        }
    }

    /// Takes the singular vectors of `other` over.
    pub fn follow(&mut self, other: &Self) {
        self.spectral.clone_from(&other.spectral);
    }

    /// Features of observations `[B, O]`, into [`TrunkWork::features`].
    pub fn forward(&self, params: &[f32], obs: &[f32], work: &mut TrunkWork) {
        let x = self.encoder.forward_slices(&self.effective, obs, &mut work.encoder);
        self.features.forward(&params[self.encoder.len()..self.len()], x, &mut work.features);
    }

    /// Features `[B, d]` of observations `[B, O]` under parameters `[P]`, on tensors.
    pub fn forward_tensor(&self, params: &Tensor<1>, obs: Tensor<2>, device: &Device) -> Tensor<2> {
        let encoder = params.clone().narrow(0, 0, self.encoder.len());
        let effective = match &self.spectral {
            Some(spectral) => spectral.apply_tensor(&encoder, device),
            None => encoder,
        };
        let x = self.encoder.forward(&effective, obs).0;
        self.features.forward_tensor(params, self.encoder.len(), x)
    }

    /// After [`Self::forward`], with the loss's derivative in [`TrunkWork::features`]: its gradient into `grad`.
    pub fn backward(&self, params: &[f32], obs: &[f32], work: &mut TrunkWork, grad: &mut [f32]) {
        let (d_encoder, d_gate) = grad[..self.len()].split_at_mut(self.encoder.len());
        let d_x = work.encoder.outputs().1;
        let gate = &params[self.encoder.len()..self.len()];
        self.features.backward(gate, &mut work.features, d_gate, d_x);
        self.encoder.vjp_slices(&self.effective, obs, &mut work.encoder, d_encoder);
        if let Some(spectral) = &self.spectral {
            spectral.backward(&self.effective, d_encoder);
        }
    }

    /// Saves the parameters by part, under `name`, and the singular vectors.
    pub fn save(&self, params: &[f32], name: &str, state: &mut State) {
        save_parts(&self.encoder.parts(), params, name, state);
        if !self.features.is_empty() {
            let gate = params[self.encoder.len()..self.len()].to_vec();
            state.put(&format!("{name}.gate"), Array::F32(vec![gate.len()], gate));
        }
        if let Some(spectral) = &self.spectral {
            spectral.save("spectral", state);
        }
    }

    /// Restores the singular vectors, and returns the parameters.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<Vec<f32>, StateError> {
        let mut params = load_parts(&self.encoder.parts(), name, state)?;
        if !self.features.is_empty() {
            params.extend_from_slice(state.f32(&format!("{name}.gate"), self.features.len())?);
        }
        if let Some(spectral) = &mut self.spectral {
            spectral.load("spectral", state)?;
        }
        Ok(params)
    }
}
