//! The eleven compiled models, as data.

#![allow(clippy::excessive_precision, clippy::approx_constant, clippy::unreadable_literal)]

pub mod ant;
pub mod half_cheetah;
pub mod hopper;
pub mod humanoid;
pub mod humanoid_standup;
pub mod inverted_double_pendulum;
pub mod inverted_pendulum;
pub mod pusher;
pub mod reacher;
pub mod swimmer;
pub mod walker2d;
