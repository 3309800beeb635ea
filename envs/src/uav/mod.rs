//! UAV communication: aircraft that carry base stations, or collect from sensors.
//!
//! | task | agents | what |
//! |---|---|---|
//! | [`trajectory`] (`uav-trajectory`) | 1, 2 | fly so that the worst served user gets most; an exact bound |
//! | [`harvest`] (`uav-harvest`) | 1 to 3 | collect the data of sensors and be back before the battery is empty |
//! | [`bs`] (`uav-bs`) | 2 to 6 | fly, choose users, subchannels and powers, among the others' interference |
//!
//! Presets are tasks of their own, named after a slash: `uav-bs/bs-dense`. A table, a directory of results and
//! a suite then say which scenario they hold, and any option can still be set on top (`--env-set users=20`);
//! the plain name is the first preset. As an option a preset would have to come before the options that it
//! sets, and two presets in one suite would share a name.
//!
//! The physics are functions of their own, each with the published values that test it: [`channel`], [`radio`],
//! [`energy`], [`mobility`]; [`plan`] holds packings, clusters, assignments and tours for the comparators
//! ([`crate::Env::comparators`]). Bounds: [`TrajectoryOptions::bound`], [`BsOptions::hover_bound`],
//! [`Bs::interference_free`], [`Harvest::data`].

pub mod bs;
pub mod channel;
pub mod energy;
pub mod harvest;
pub mod mobility;
mod picture;
pub mod plan;
pub mod radio;
mod schedule;
mod small;
pub mod trajectory;

pub use bs::{Bs, BsOptions};
pub use harvest::{Harvest, HarvestOptions};
pub use trajectory::{Trajectory, TrajectoryOptions};
