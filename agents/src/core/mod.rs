//! The shared core: networks, distributions, rollouts, replay, advantages, optimisers, trust
//! regions.
//!
//! Each piece has one right answer and is tested alone. Nothing here knows an algorithm.

pub mod adam;
pub mod advantages;
pub mod batch;
pub mod central;
pub mod density;
pub mod device;
pub mod dist;
pub mod features;
pub mod graph_critic;
pub mod gru;
pub mod hyperbolic;
pub mod joint;
pub mod kernels;
pub mod loss;
pub mod meta_game;
pub mod mlp;
pub mod network;
pub mod normalize;
pub mod off_policy;
pub mod on_policy;
pub mod policy;
pub mod profile;
pub mod q_net;
pub mod recurrent;
pub mod relaxed;
pub mod replay;
pub mod rollout;
pub mod shared;
pub mod spectral;
pub mod squashed;
#[cfg(all(test, feature = "cpu"))]
pub(crate) mod testing;
pub mod trunk;
pub mod trust_region;
pub mod value_head;
pub mod weights;
