//! UAV communication.

pub mod bs;
pub mod channel;
pub mod energy;
pub mod harvest;
pub mod mobility;
mod pen;
mod picture;
pub mod plan;
pub mod radio;
pub mod trajectory;

pub use bs::{Bs, BsOptions};
pub use harvest::{Harvest, HarvestOptions};
pub use trajectory::{Trajectory, TrajectoryOptions};
