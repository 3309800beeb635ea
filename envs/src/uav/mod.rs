//! UAV communication.

pub mod channel;
pub mod energy;
pub mod mobility;
pub mod plan;
pub mod radio;
