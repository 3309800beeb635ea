//! Options, presets, and what does not go together.

use super::{Action, Steering};
use crate::OptionError;
use crate::options::{Few, Fraction, Limit, Options as _, Positive, Range, Scale, Steps, choice, options};
use crate::uav::channel::{self, Fading, Sight, Surroundings};
use crate::uav::mobility::Mobility;
use crate::uav::{plan, radio};

choice! {
    /// What a UAV is paid for its users' rates: x is its own share, R̄ the mean rates of all users since the
    /// start.
    pub enum Reward: "rate, fair, std, pf or maxmin" {
        /// x.
        Rate = "rate",
        /// x times Jain's index of R̄.
        Fair = "fair",
        /// x minus `std_weight` times the standard deviation of R̄/R_ref (after GA-MATR).
        Std = "std",
        /// The mean of log(0.001 + R̄/R_ref), the same for all.
        Pf = "pf",
        /// The smallest R̄/R_ref, the same for all.
        MaxMin = "maxmin",
    }
}

choice! {
    /// Which users a UAV observes in which order.
    pub enum Order: "index or nearest" {
        /// All, by number.
        Index = "index",
        /// The nearest, nearest first.
        Nearest = "nearest",
    }
}

options! {
    /// Options of [`Bs`](super::Bs).
    pub struct BsOptions {
        /// UAVs, M.
        uavs: Few = Few(3),
        /// Users, K.
        users: Steps = Steps(12),
        /// Subchannels, N.
        subchannels: Few = Few(4),
        /// Form of the actions.
        action: Action = Action::Motion,
        /// What a motion of numbers means.
        steering: Steering = Steering::Acceleration,
        /// Form of the reward.
        reward: Reward = Reward::Rate,
        /// Weight of the mean reward of all in the reward of each.
        team: Fraction = Fraction(0.0),
        /// Cost of a slot nearer than `separation` to another UAV.
        collision_cost: Scale = Scale(1.0),
        /// Cost of a slot at a wall.
        boundary_cost: Scale = Scale(0.1),
        /// Cost of all users being below `min_rate`.
        qos_cost: Scale = Scale(0.5),
        /// Cost of a slot of hovering.
        energy_cost: Scale = Scale(0.05),
        /// Weight of the deviation in the reward `std`.
        std_weight: Scale = Scale(0.5),
        /// Rate that a user should have, in R_ref.
        min_rate: Scale = Scale(0.1),
        /// Users in an observation, and to choose from.
        observed: Steps = Steps(12),
        /// Which users those are.
        order: Order = Order::Index,
        /// Whether an observation holds the UAV's number.
        show_id: bool = false,
        /// How far a UAV sees and serves users, in m on the ground.
        sensing: Limit = Limit(500.0),
        /// How far a UAV hears others, in m.
        hearing: Limit = Limit(500.0),
        /// Surroundings of the channel.
        surroundings: Surroundings = Surroundings::Urban,
        /// How the line of sight is settled.
        sight: Sight = Sight::Mean,
        /// After so many metres a line of sight is drawn anew.
        coherence: Positive = Positive(50.0),
        /// Small-scale fading, drawn anew for each link in each slot.
        fading: Fading = Fading::None,
        /// Half the beam of the antennas, which look down, in degrees; 90 and more for all around.
        half_beam: Positive = Positive(90.0),
        /// Carrier, in GHz.
        carrier: Positive = Positive(2.0),
        /// Bandwidth of a subchannel, in kHz.
        bandwidth: Positive = Positive(180.0),
        /// Thermal noise, in dBm/Hz.
        noise_density: f64 = -174.0,
        /// Noise figure of a receiver, in dB.
        noise_figure: Scale = Scale(7.0),
        /// Highest power of a UAV, in W.
        power: Positive = Positive(1.0),
        /// Highest spectral efficiency, in bit/s/Hz.
        rate_cap: Limit = Limit(7.4),
        /// Whether there is a jammer.
        jammer: bool = false,
        /// Power of the jammer, in W.
        jammer_power: Positive = Positive(0.1),
        /// Side of the square, in m.
        side: Positive = Positive(1000.0),
        /// Lowest and highest altitude, in m; equal for flight in a plane.
        altitude: Range = Range(100.0, 100.0),
        /// Length of a slot, in s.
        slot: Positive = Positive(1.0),
        /// Slots of an episode.
        steps: Steps = Steps(200),
        /// Highest speed, in m/s.
        max_speed: Positive = Positive(20.0),
        /// Highest acceleration, in m/s².
        max_acceleration: Positive = Positive(5.0),
        /// Smallest distance of two UAVs, in m.
        separation: Scale = Scale(10.0),
        /// Whether a collision ends the episode.
        crash: bool = false,
        /// Energy at the start, in kJ.
        battery: Positive = Positive(50.0),
        /// Movement of the users.
        mobility: Mobility = Mobility::GaussMarkov,
    }
}

impl BsOptions {
    /// The preset of a registered name.
    pub fn preset(id: &str) -> Self {
        let standard = Self::default();
        match id {
            "uav-bs/bs-tiny" => {
                Self { uavs: Few(2), users: Steps(4), subchannels: Few(2), observed: Steps(4), ..standard }
            }
            "uav-bs/bs-dense" => Self {
                uavs: Few(6),
                users: Steps(60),
                subchannels: Few(10),
                observed: Steps(20),
                order: Order::Nearest,
                ..standard
            },
            "uav-bs/bs-jam" => Self { jammer: true, ..standard },
            _ => standard,
        }
    }

    /// The preset of a registered name with options given as text.
    ///
    /// # Errors
    /// For an unknown option, a value that it does not take, and values that do not go together.
    pub fn given(id: &str, given: &[(&str, &str)]) -> Result<Self, OptionError> {
        let options = Self::preset(id).with(id, given)?;
        match options.conflict() {
            None => Ok(options),
            Some(why) => Err(OptionError::Conflict { env: id.to_owned(), why }),
        }
    }

    /// What is wrong with values that are good by themselves.
    fn conflict(&self) -> Option<String> {
        let (m, side) = (self.uavs.0, self.side.0);
        let widest = plan::widest(m, side);
        let (lowest, highest) = self.surroundings.altitudes();
        let Range(low, high) = self.altitude;
        if self.separation.0 > widest {
            return Some(format!(
                "uavs = {m} cannot keep separation = {} m on a square of side = {side} m; at most {widest:.0} m",
                self.separation.0
            ));
        }
        if self.observed.0 > self.users.0 {
            return Some(format!("observed = {} users of users = {}", self.observed.0, self.users.0));
        }
        if self.order == Order::Index && self.observed.0 != self.users.0 {
            let why = format!(
                "order = index observes all users = {}, not observed = {}",
                self.users.0, self.observed.0
            );
            return Some(format!("{why}; set one to the other, or order = nearest"));
        }
        if !(low >= lowest && high <= highest) {
            return Some(format!(
                "altitude = [{low}, {high}] m is outside [{lowest}, {highest}], that of the surroundings"
            ));
        }
        if !(high.is_finite() && self.side.0 >= 1.0) {
            return Some("the airspace must be finite, and its side at least 1 m".to_owned());
        }
        if self.max_speed.0 * self.slot.0 > side {
            return Some(format!(
                "a slot of {} s at max_speed = {} m/s leaves the square",
                self.slot.0, self.max_speed.0
            ));
        }
        None
    }

    /// Whether UAVs climb.
    pub(super) fn climbs(&self) -> bool {
        self.altitude.1 > self.altitude.0
    }

    /// R_ref: rate of one of N subchannels with its share of the power, right below a lone UAV at the lowest
    /// altitude.
    pub fn reference_rate(&self) -> f64 {
        let gain = channel::gain(self.surroundings.link(0.0, self.altitude.0, self.carrier.0).mean());
        let snr = self.power.0 / self.subchannels.0 as f64 * gain / self.noise();
        self.hertz() * radio::efficiency(snr, self.rate_cap.0)
    }

    /// Upper bound of the mean rate of all users in R_ref, of any policy in any slot: every subchannel of every
    /// UAV carries R_ref, without interference.
    pub fn hover_bound(&self) -> f64 {
        (self.uavs.0 * self.subchannels.0) as f64 / self.users.0 as f64
    }

    pub(super) fn hertz(&self) -> f64 {
        self.bandwidth.0 * 1e3
    }

    pub(super) fn noise(&self) -> f64 {
        radio::noise(self.hertz(), self.noise_density, self.noise_figure.0)
    }
}
