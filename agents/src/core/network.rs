//! The networks of policies and values: hidden layers, then a linear layer, or features and a head as those of `hyperpp`.
//!
//! With [`Kind::Hyperpp`] the encoder's last layer is linear and as wide as there are features: observation → [`Mlp`] →
//! [`Features`] → [`Mlr`]. Policy and value have a network each, unlike `hyperpp`'s, whose encoder they share.
//! Derivatives are written out as those of [`Mlp`]; on tensors those of features and head are autodiff's on the way back.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use steadfast_envs::Rng;

use super::device::Device;
use super::features::{self, Features, Norm};
use super::hyperbolic::mlr::{self, Geometry, Mlr};
use super::mlp::{self, Activation, Init, Mlp, slices};
use super::trunk::Embedding;
use crate::BuildError;
use crate::config::bad;

/// What follows the hidden layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A linear layer.
    Linear,
    /// Features of bounded length and a head in hyperbolic space, or what [`Embedding`] makes of them.
    Hyperpp,
}

/// What follows the hidden layers of the policy's and of the value's network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heads {
    /// What follows the hidden layers: `linear` (a linear layer; the options from `features` to `head_gain` do nothing then) or
    /// `hyperpp` (features and heads of agent `hyperpp`).
    pub heads: Kind,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub embedding: Embedding,
}

impl Default for Heads {
    fn default() -> Self {
        Self { heads: Kind::Linear, embedding: Embedding::default() }
    }
}

impl Heads {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the first key that is out of range, or that these heads have no use for.
    pub fn validate(&self) -> Result<(), BuildError> {
        if self.heads == Kind::Linear {
            return Ok(());
        }
        self.embedding.validate()?;
        if self.embedding.geometry == Geometry::BallPoints {
            let why = "ball-points needs Riemannian steps, which agent hyperpp takes: choose ball here";
            return Err(bad("geometry", why.to_owned()));
        }
        if self.embedding.norm == Norm::Spectral {
            let why =
                "spectral needs power iterations, which agent hyperpp does: choose rms, layer or none here";
            return Err(bad("norm", why.to_owned()));
        }
        Ok(())
    }

    /// Settings that are legal but hardly meant.
    pub fn remarks(&self) -> Vec<String> {
        if self.heads == Kind::Linear { Vec::new() } else { self.embedding.remarks() }
    }
}

/// A network: shapes only, the parameters are the caller's. They are the encoder's, the gate's and the head's.
#[derive(Clone, Debug)]
pub struct Network {
    mlp: Mlp,
    crown: Option<Crown>,
}

/// Features and head.
#[derive(Clone, Debug)]
struct Crown {
    features: Features,
    head: Mlr,
    gain: f64,
    /// Where the parameters of both begin, and where they end.
    first: usize,
    middle: usize,
    last: usize,
}

impl Crown {
    /// The parts of a vector `[P]` that belong to features and head.
    fn parts<'a>(&self, of: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        (&of[self.first..self.middle], &of[self.middle..self.last])
    }

    fn forward_tensor(&self, params: &Tensor<1>, x: Tensor<2>) -> Tensor<2> {
        let v = self.features.forward_tensor(params, self.first, x);
        self.head.forward_tensor(&self.own(params), None, v)
    }

    /// The head's part of a vector `[P]`.
    fn own(&self, of: &Tensor<1>) -> Tensor<1> {
        of.clone().narrow(0, self.middle, self.last - self.middle)
    }
}

/// Buffers of passes, kept between calls so that a pass does not allocate.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    mlp: slices::Workspace,
    /// Of features and head, where the last network had them.
    crown: Option<Box<CrownWork>>,
    /// Gradients that nobody asked for.
    unasked: Vec<f32>,
}

#[derive(Clone, Debug, Default)]
struct CrownWork {
    features: features::Work<f32>,
    head: mlr::Work<f32>,
}

impl Workspace {
    /// The outputs of the last forward pass, `[B, out]`, and room for their gradient.
    pub fn outputs(&mut self) -> (&[f32], &mut [f32]) {
        match &mut self.crown {
            Some(crown) => crown.head.outputs(),
            None => self.mlp.outputs(),
        }
    }

    /// The outputs of the last forward pass, to be changed: no derivative looks at them.
    pub fn outputs_mut(&mut self) -> &mut [f32] {
        match &mut self.crown {
            Some(crown) => crown.head.outputs_mut(),
            None => self.mlp.outputs_mut(),
        }
    }

    /// Mean length of the features of the last forward pass and mean of their gate, where there are such.
    pub fn means(&self) -> (Option<f64>, Option<f64>) {
        self.crown.as_ref().map_or((None, None), |crown| {
            let (norm, gate) = crown.features.means();
            (Some(norm), gate)
        })
    }
}

/// What the derivatives on tensors need of a forward pass.
#[derive(Clone)]
pub struct Pass {
    mlp: mlp::Pass,
    /// The encoder's outputs, `[B, d]`.
    encoded: Tensor<2>,
}

impl Network {
    /// Network from `inputs` to `outputs` through the `hidden` sizes.
    pub fn new(
        inputs: usize,
        hidden: &[usize],
        outputs: usize,
        activation: Activation,
        heads: &Heads,
        device: &Device,
    ) -> Self {
        if heads.heads == Kind::Linear {
            return Self { mlp: Mlp::new(inputs, hidden, outputs, activation, device), crown: None };
        }
        let e = &heads.embedding;
        let (mlp, features) = (Mlp::new(inputs, hidden, e.features, activation, device), e.chain());
        let head = e.head(outputs);
        let (first, middle) = (mlp.len(), mlp.len() + features.len());
        let last = middle + head.len();
        Self { mlp, crown: Some(Crown { features, head, gain: e.head_gain, first, middle, last }) }
    }

    /// Number of parameters, P.
    pub fn len(&self) -> usize {
        self.crown.as_ref().map_or(self.mlp.len(), |crown| crown.last)
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of an input.
    pub fn inputs(&self) -> usize {
        self.mlp.inputs()
    }

    /// Names and shapes of the parts of the parameters, in order.
    pub fn parts(&self) -> Vec<(String, Vec<usize>)> {
        let mut parts = self.mlp.parts();
        if let Some(crown) = &self.crown {
            if !crown.features.is_empty() {
                parts.push(("gate".to_owned(), vec![crown.features.len()]));
            }
            parts.extend(crown.head.parts().into_iter().map(|(name, shape)| (format!("head.{name}"), shape)));
        }
        parts
    }

    /// Initial parameters `[P]`; `gain` scales a linear last layer.
    pub fn init(&self, init: Init, gain: f64, rng: &mut Rng) -> Vec<f32> {
        let Some(crown) = &self.crown else { return self.mlp.init(init, gain, rng) };
        let mut params = self.mlp.init(init, std::f64::consts::SQRT_2, rng);
        params.extend(crown.features.init(rng));
        params.extend(crown.head.init(crown.gain, rng));
        params
    }

    /// Outputs `[B, out]` for inputs `x` `[B, in]`; `work` keeps what the derivatives need.
    pub fn forward_slices<'a>(&self, params: &[f32], x: &[f32], work: &'a mut Workspace) -> &'a [f32] {
        let Some(crown) = &self.crown else {
            work.crown = None;
            return self.mlp.forward_slices(params, x, &mut work.mlp);
        };
        let encoded = self.mlp.forward_slices(params, x, &mut work.mlp);
        let CrownWork { features, head } = &mut **work.crown.get_or_insert_default();
        let (of_features, of_head) = crown.parts(params);
        crown.features.forward(of_features, encoded, features);
        crown.head.forward(of_head, &[], features.features().0, head);
        head.outputs().0
    }

    /// Gradient `[P]` of Σ g ∘ outputs with respect to the parameters, into `grad`, after a forward pass on `x`
    /// with g `[B, out]` in [`Workspace::outputs`].
    pub fn vjp_slices(&self, params: &[f32], x: &[f32], work: &mut Workspace, grad: &mut [f32]) {
        self.crown_vjp(params, work, grad);
        self.mlp.vjp_slices(params, x, &mut work.mlp, grad);
    }

    /// Gradient `[B, in]` of Σ g ∘ outputs with respect to the inputs, into `d_x`, after a forward pass with g
    /// `[B, out]` in [`Workspace::outputs`].
    pub fn input_vjp_slices(&self, params: &[f32], work: &mut Workspace, d_x: &mut [f32]) {
        let mut unasked = std::mem::take(&mut work.unasked);
        if self.crown.is_some() {
            unasked.resize(self.len(), 0.0);
            self.crown_vjp(params, work, &mut unasked);
        }
        work.unasked = unasked;
        self.mlp.input_vjp_slices(params, &mut work.mlp, d_x);
    }

    /// From the gradient of the outputs to that of the encoder's, and of the parameters of features and head.
    fn crown_vjp(&self, params: &[f32], work: &mut Workspace, grad: &mut [f32]) {
        let (Some(crown), Some(crown_work)) = (&self.crown, &mut work.crown) else { return };
        let CrownWork { features, head } = &mut **crown_work;
        let (of_features, of_head) = crown.parts(params);
        let (d_features, d_head) = grad[crown.first..crown.last].split_at_mut(crown.middle - crown.first);
        let (v, d_v) = features.features();
        d_v.fill(0.0);
        crown.head.backward(of_head, &[], v, head, d_head, &mut [], d_v);
        crown.features.backward(of_features, features, d_features, work.mlp.outputs().1);
    }

    /// Directional derivative of the outputs along `tangent` `[P]`, into the room of [`Workspace::outputs`],
    /// after a forward pass on `x`, which moves along `d_x` `[B, in]` or stands still.
    pub fn jvp_slices(
        &self,
        params: &[f32],
        x: &[f32],
        d_x: Option<&[f32]>,
        tangent: &[f32],
        work: &mut Workspace,
    ) {
        self.mlp.jvp_slices(params, x, d_x, tangent, &mut work.mlp);
        let (Some(crown), Some(crown_work)) = (&self.crown, &mut work.crown) else { return };
        let CrownWork { features, head } = &mut **crown_work;
        let ((of_features, of_head), (by_features, by_head)) = (crown.parts(params), crown.parts(tangent));
        crown.features.jvp(of_features, by_features, work.mlp.outputs().1, features);
        let (v, d_v) = features.features();
        crown.head.jvp(of_head, &[], by_head, v, d_v, head);
    }

    /// Outputs `[B, out]` for inputs `[B, in]`, and what the derivatives need.
    pub fn forward(&self, params: &Tensor<1>, x: Tensor<2>) -> (Tensor<2>, Pass) {
        let (encoded, mlp) = self.mlp.forward(params, x);
        let outputs = match &self.crown {
            Some(crown) => crown.forward_tensor(params, encoded.clone()),
            None => encoded.clone(),
        };
        (outputs, Pass { mlp, encoded })
    }

    /// Gradient `[P]` of Σ `grad` ∘ outputs with respect to the parameters (vector-Jacobian product), `grad` `[B, out]`.
    pub fn vjp(&self, params: &Tensor<1>, pass: &Pass, grad: Tensor<2>) -> Tensor<1> {
        let Some(crown) = &self.crown else { return self.mlp.vjp(params, &pass.mlp, grad) };
        let leaf = params.clone().autodiff().require_grad();
        let encoded = pass.encoded.clone().autodiff().require_grad();
        let outputs = crown.forward_tensor(&leaf, encoded.clone());
        let gradients = (outputs * grad.autodiff()).sum().backward();
        let d_params = leaf.grad(&gradients).unwrap_or_else(|| params.zeros_like());
        let d_encoded = encoded.grad(&gradients).unwrap_or_else(|| pass.encoded.zeros_like());
        let d_crown = d_params.narrow(0, crown.first, crown.last - crown.first);
        Tensor::cat(vec![self.mlp.vjp(params, &pass.mlp, d_encoded), d_crown], 0)
    }

    /// Directional derivative `[B, out]` of the outputs along `tangent` `[P]` (Jacobian-vector product).
    pub fn jvp(&self, params: &Tensor<1>, pass: &Pass, tangent: &Tensor<1>) -> Tensor<2> {
        let d_encoded = self.mlp.jvp(params, &pass.mlp, tangent);
        let Some(crown) = &self.crown else { return d_encoded };
        let (v, d_v) =
            crown.features.jvp_tensor(params, tangent, crown.first, pass.encoded.clone(), d_encoded);
        crown.head.jvp_tensor(&crown.own(params), &crown.own(tangent), v, d_v)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;

    #[test]
    fn what_these_heads_cannot_do_is_refused_by_name() {
        let heads = |embedding| Heads { heads: Kind::Hyperpp, embedding };
        let refused = |embedding| heads(embedding).validate().unwrap_err().to_string();
        let base = Embedding::default;
        assert!(heads(base()).validate().is_ok());
        let points = refused(Embedding { geometry: Geometry::BallPoints, ..base() });
        assert!(points.contains("'geometry'") && points.contains("hyperpp"), "{points}");
        let spectral = refused(Embedding { norm: Norm::Spectral, ..base() });
        assert!(spectral.contains("'norm'") && spectral.contains("hyperpp"), "{spectral}");
        assert!(refused(Embedding { alpha: 1.0, ..base() }).contains("'alpha'"));
        // Without such heads, nothing reads the options.
        let unread = Embedding { geometry: Geometry::BallPoints, ..base() };
        assert!(Heads { heads: Kind::Linear, embedding: unread }.validate().is_ok());
        let few = heads(Embedding { features: 3, ..base() });
        assert!(few.remarks()[0].contains("features = 3") && Heads::default().remarks().is_empty());
    }

    /// Of every kind of head: slopes with respect to the inputs against finite differences.
    #[cfg(feature = "cpu")]
    #[test]
    fn slopes_of_the_inputs_agree_with_finite_differences() {
        use crate::core::testing::{all_heads, normals};
        for heads in all_heads() {
            let network = Network::new(3, &[5], 2, Activation::Tanh, &heads, &Device::cpu());
            let params: Vec<f32> = normals(network.len(), 1).iter().map(|x| 0.5 * x).collect();
            let (x, g) = (normals(6, 2), normals(4, 3));
            let mut work = Workspace::default();
            network.forward_slices(&params, &x, &mut work);
            work.outputs().1.copy_from_slice(&g);
            let mut d_x = vec![7.0; 6];
            network.input_vjp_slices(&params, &mut work, &mut d_x);
            for i in 0..6 {
                let mut at = |h: f32| -> f32 {
                    let mut x = x.clone();
                    x[i] += h;
                    network.forward_slices(&params, &x, &mut work).iter().zip(&g).map(|(y, g)| y * g).sum()
                };
                let numeric = (at(4e-3) - at(-4e-3)) / 8e-3;
                assert!((d_x[i] - numeric).abs() < 5e-3, "{heads:?} {i}: {}, not {numeric}", d_x[i]);
            }
        }
    }
}
