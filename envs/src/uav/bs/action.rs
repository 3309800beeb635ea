//! What the UAVs do: motion, users and powers from numbers, choices, or both.

use super::radio::IDLE;
use super::{Bs, BsOptions, radio};
use crate::Space;
use crate::options::{Range, choice};

choice! {
    /// Forms of the actions of a UAV. Users are the observed ones, s = 1, 2, …, where 0 is nobody; levels are 0, ¼, ½ and 1 of
    /// its power over the subchannels that it uses.
    pub enum Action: "motion, discrete, multi-discrete, continuous or hybrid" {
        /// Numbers for the motion. Users go to the UAV of the best channel that has room, on the subchannel that the others
        /// disturb least there, with equal powers.
        Motion = "motion",
        /// One of nine moves (stay, eight directions at full speed; climb and sink where altitudes differ); users as in
        /// `motion`.
        Discrete = "discrete",
        /// A move, a user for each subchannel, a level for each subchannel.
        MultiDiscrete = "multi-discrete",
        /// Numbers: motion, for each subchannel a score of nobody and of each user (the highest that is allowed wins), a
        /// power for each subchannel.
        Continuous = "continuous",
        /// Numbers for the motion, then a user and a level for each subchannel.
        Hybrid = "hybrid",
    }
}

choice! {
    /// What the numbers of a motion are.
    pub enum Steering: "acceleration or velocity" {
        /// Parts of the highest acceleration.
        Acceleration = "acceleration",
        /// Parts of the highest speed.
        Velocity = "velocity",
    }
}

/// Parts of the power that a level stands for.
pub(super) const LEVELS: [f64; 4] = [0.0, 0.25, 0.5, 1.0];

impl Action {
    /// Whether there is something to forbid.
    pub(super) fn is_masked(self) -> bool {
        matches!(self, Self::Discrete | Self::MultiDiscrete | Self::Hybrid)
    }

    /// Whether users and powers are chosen.
    pub(super) fn assigns(self) -> bool {
        matches!(self, Self::MultiDiscrete | Self::Continuous | Self::Hybrid)
    }

    /// Whether the motion is one of several moves.
    pub(super) fn moves(self) -> bool {
        matches!(self, Self::Discrete | Self::MultiDiscrete)
    }
}

/// Axes of the motion.
pub(super) fn axes(options: &BsOptions) -> usize {
    if options.climbs() { 3 } else { 2 }
}

/// Moves to choose from.
pub(super) fn moves(options: &BsOptions) -> usize {
    if options.climbs() { 11 } else { 9 }
}

/// Direction of a move: stay, from east round by 45°, climb, sink.
pub(super) fn direction(choice: usize) -> [f64; 3] {
    match choice {
        1..=8 => {
            let (sin, cos) = ((choice - 1) as f64 * std::f64::consts::FRAC_PI_4).sin_cos();
            [cos, sin, 0.0]
        }
        9 => [0.0, 0.0, 1.0],
        10 => [0.0, 0.0, -1.0],
        _ => [0.0; 3],
    }
}

/// Action space of a UAV.
pub(super) fn space(options: &BsOptions) -> Space {
    let (n, users) = (options.subchannels.0, options.observed.0 + 1);
    let motion = Space::uniform(axes(options), -1.0, 1.0);
    let heads = || [vec![users; n], vec![LEVELS.len(); n]].concat();
    match options.action {
        Action::Motion => motion,
        Action::Discrete => Space::Discrete(moves(options)),
        Action::MultiDiscrete => Space::MultiDiscrete([vec![moves(options)], heads()].concat()),
        Action::Continuous => Space::uniform(axes(options) + n * users + n, -1.0, 1.0),
        Action::Hybrid => Space::Hybrid(vec![motion, Space::MultiDiscrete(heads())]),
    }
}

impl Bs {
    /// Numbers of the motion at the head of each UAV's action.
    fn motion_len(&self) -> usize {
        if self.options.action.moves() { 1 } else { axes(&self.options) }
    }

    /// Sets velocities from the motions of the joint action.
    pub(super) fn steer(&mut self, action: &[f64]) {
        let options = &self.options;
        let (most, dt) = (options.max_speed.0, options.slot.0);
        let own = action.len() / self.position.len();
        for (v, action) in self.velocity.iter_mut().zip(action.chunks_exact(own)) {
            if options.action.moves() {
                *v = direction(action[0] as usize).map(|d| d * most);
                continue;
            }
            for axis in 0..axes(options) {
                let u = if action[axis].is_finite() { action[axis] } else { 0.0 };
                v[axis] = match options.steering {
                    Steering::Acceleration => v[axis] + u * options.max_acceleration.0 * dt,
                    Steering::Velocity => u * most,
                };
            }
            let speed = (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt();
            if speed > most {
                *v = v.map(|x| x * most / speed);
            }
        }
    }

    /// Notes users and relative powers that the joint action chooses, as far as they are allowed; of several UAVs that choose
    /// a user the one with the best channel has it.
    pub(super) fn choose(&mut self, action: &[f64]) {
        self.served.fill(IDLE);
        self.power.fill(0.0);
        if !self.options.action.assigns() {
            return;
        }
        let (n, shown, k) = (self.options.subchannels.0, self.options.observed.0, self.rates.len());
        let own = action.len() / self.position.len();
        let head = self.motion_len();
        for (i, action) in action.chunks_exact(own).enumerate() {
            let action = &action[head..];
            for channel in 0..n {
                let (choice, level) = if self.options.action == Action::Continuous {
                    let scores = &action[channel * (shown + 1)..(channel + 1) * (shown + 1)];
                    let allowed = (1..=shown).filter(|s| self.in_reach(i, self.slots[i * shown + s - 1]));
                    let best = allowed.fold(0, |best, s| if scores[s] > scores[best] { s } else { best });
                    (best, 0.5 * (action[n * (shown + 1) + channel] + 1.0).clamp(0.0, 2.0))
                } else {
                    let level = LEVELS.get(action[n + channel] as usize).copied().unwrap_or(0.0);
                    (action[channel] as usize, level)
                };
                if (1..=shown).contains(&choice) {
                    let user = self.slots[i * shown + choice - 1];
                    if level > 0.0 && self.in_reach(i, user) {
                        self.served[i * n + channel] = user;
                        self.power[i * n + channel] = level;
                    } else {
                        self.events.wasted += 1;
                    }
                }
            }
        }
        self.server.fill(IDLE);
        for (slot, user) in self.served.iter().enumerate().filter(|(_, user)| **user != IDLE) {
            let (i, rival) = (slot / n, self.server[*user]);
            if rival == IDLE || self.gains[i * k + user] > self.gains[rival * k + user] {
                self.server[*user] = i;
            }
        }
        for slot in 0..self.served.len() {
            let user = self.served[slot];
            if user != IDLE && self.server[user] != slot / n {
                self.served[slot] = IDLE;
                self.power[slot] = 0.0;
                self.events.wasted += 1;
            }
        }
    }

    /// Turns relative powers into W: parts of the power over the subchannels in use.
    pub(super) fn share_power(&mut self) {
        let n = self.options.subchannels.0;
        for (power, served) in self.power.chunks_exact_mut(n).zip(self.served.chunks_exact(n)) {
            let active = served.iter().filter(|user| **user != IDLE).count();
            self.events.idle += n - active;
            power.iter_mut().for_each(|p| *p *= self.options.power.0 / active.max(1) as f64);
        }
    }

    /// Associates users by themselves: links in reach from the best down, each to the free subchannel that those already
    /// served elsewhere disturb least; equal powers.
    pub(super) fn associate(&mut self) {
        let (k, n) = (self.rates.len(), self.options.subchannels.0);
        self.served.fill(IDLE);
        self.power.fill(0.0);
        self.server.fill(IDLE);
        let mut order = std::mem::take(&mut self.scratch.order);
        order.clear();
        order.extend(
            (0..self.gains.len()).filter(|l| self.in_reach(l / k, l % k)).map(|l| (self.gains[l], l)),
        );
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, link) in &order {
            let (i, user) = (link / k, link % k);
            if self.server[user] != IDLE {
                continue;
            }
            let free = (i * n..(i + 1) * n).filter(|slot| self.served[*slot] == IDLE);
            let quiet = |slot: usize| radio::interference(&self.gains, &self.power, n, i, slot % n, user, k);
            let best = free.map(|slot| (quiet(slot), slot)).min_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((_, slot)) = best {
                self.served[slot] = user;
                self.power[slot] = 1.0;
                self.server[user] = i;
            }
        }
        self.scratch.order = order;
        self.share_power();
    }

    /// Writes which moves, users and levels are allowed.
    pub(super) fn write_mask(&self, mask: &mut [bool]) {
        let options = &self.options;
        let (n, shown) = (options.subchannels.0, options.observed.0);
        let own = (mask.len() / self.position.len()).max(1);
        for (i, mask) in mask.chunks_exact_mut(own).enumerate() {
            let mut rest = mask;
            if options.action.moves() {
                let (own, others) = rest.split_at_mut(moves(options));
                rest = others;
                own.iter_mut().enumerate().for_each(|(choice, flag)| *flag = self.stays_inside(i, choice));
            }
            if options.action.assigns() {
                let (users, levels) = rest.split_at_mut(n * (shown + 1));
                for flags in users.chunks_exact_mut(shown + 1) {
                    flags[0] = true;
                    for (flag, user) in flags[1..].iter_mut().zip(&self.slots[i * shown..]) {
                        *flag = self.in_reach(i, *user);
                    }
                }
                levels.fill(true);
            }
        }
    }

    /// Whether a move does not meet a wall.
    fn stays_inside(&self, i: usize, choice: usize) -> bool {
        let (step, side, Range(low, high)) =
            (self.options.max_speed.0 * self.options.slot.0, self.options.side.0, self.options.altitude);
        let d = direction(choice);
        (0..3).all(|axis| {
            let (least, most) = if axis < 2 { (0.0, side) } else { (low, high) };
            let next = self.position[i][axis] + d[axis] * step;
            (least - 1e-6..=most + 1e-6).contains(&next)
        })
    }
}
