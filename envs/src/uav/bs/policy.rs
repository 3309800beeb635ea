//! Policies to compare with, which know the whole state. A name is a motion, or a motion and an assignment of users:
//!
//! - `static`: to the centroid of the users, in a ring; `hexagonal`: to the centres of equal cells; `k-means`: to the
//!   centres of clusters of users, whoever is nearest; `circular`: round the centroid at half the spread of the users;
//!   `greedy`: each in turn to where the sum rate is highest one slot away.
//! - By default users are associated as in [`Action::Motion`](super::Action::Motion); `/hungarian`: a user for each
//!   subchannel, of the greatest sum of rates without interference; `/exhaustive`: the best of all users and levels, of small
//!   tasks only.

use std::f64::consts::PI;

use super::action::{self, LEVELS, Steering};
use super::radio::{self, IDLE};
use super::{Action, Bs, plan};
use crate::Rng;

const MOTIONS: &[&str] = &["static", "hexagonal", "k-means", "circular", "greedy"];
const ASSIGNING: &[&str] = &["static", "hexagonal", "k-means", "circular", "greedy", "k-means/hungarian"];
const SMALL: &[&str] =
    &["static", "hexagonal", "k-means", "circular", "greedy", "k-means/hungarian", "k-means/exhaustive"];

/// The most assignments that are tried.
const MOST: f64 = 1e5;

/// User and level of each subchannel of each UAV, `[M, N]`; [`IDLE`] and 0 for none.
pub type Assignment = Vec<(usize, usize)>;

impl Bs {
    pub(super) fn policies(&self) -> &'static [&'static str] {
        if !self.options.action.assigns() {
            MOTIONS
        } else if self.assignments() <= MOST {
            SMALL
        } else {
            ASSIGNING
        }
    }

    /// Number of assignments there are.
    fn assignments(&self) -> f64 {
        let each = 1 + self.rates.len() * (LEVELS.len() - 1);
        (each as f64).powi(self.served.len() as i32)
    }

    pub(super) fn policy(&self, name: &str, rng: &mut Rng, out: &mut [f64]) -> bool {
        if !self.policies().contains(&name) {
            return false;
        }
        let (motion, assignment) = name.split_once('/').unwrap_or((name, "greedy"));
        let targets = self.targets(motion, rng);
        let own = out.len() / self.position.len();
        for (i, out) in out.chunks_exact_mut(own).enumerate() {
            self.head_for(i, targets[i], out);
        }
        if self.options.action.assigns() {
            let assignment = match assignment {
                "hungarian" => self.hungarian(),
                "exhaustive" => self.exhaustive(),
                _ => self.greedy(),
            };
            self.encode(&assignment, out);
        }
        true
    }

    /// Where each UAV goes.
    fn targets(&self, motion: &str, rng: &mut Rng) -> Vec<[f64; 2]> {
        let m = self.position.len();
        let from: Vec<[f64; 2]> = self.position.iter().map(|[x, y, _]| [*x, *y]).collect();
        let users = &self.users.position;
        let middle = plan::centroid(users);
        let turn = |i: usize| i as f64 / m as f64;
        match motion {
            "hexagonal" => plan::deal(&from, &plan::hexagonal(m, self.options.side.0)),
            "k-means" => {
                let mut centres = from.clone();
                plan::k_means(users, &mut centres);
                plan::deal(&from, &centres)
            }
            "circular" => {
                let spread = users.iter().map(|u| plan::distance(*u, middle).powi(2)).sum::<f64>()
                    / users.len() as f64;
                let radius = (0.5 * spread.sqrt()).max(1.0);
                // At half speed, one slot ahead.
                let turned = 0.5 * self.options.max_speed.0 * self.options.slot.0 / (2.0 * PI * radius);
                (0..m)
                    .map(|i| plan::on_circle(middle, radius, turn(i) + turned * (self.time + 1) as f64))
                    .collect()
            }
            "greedy" => self.ascend(rng),
            _ => {
                // Well apart, and further than a slot's flight.
                let apart = (3.0 * self.options.separation.0)
                    .max(2.0 * self.options.max_speed.0 * self.options.slot.0);
                let ring = if m > 1 { apart / (2.0 * (PI / m as f64).sin()) } else { 0.0 };
                let places: Vec<_> = (0..m).map(|i| plan::on_circle(middle, ring, turn(i))).collect();
                plan::deal(&from, &places)
            }
        }
    }

    /// The best neighbouring place for one UAV after another.
    fn ascend(&self, rng: &mut Rng) -> Vec<[f64; 2]> {
        let mut probe = self.clone();
        probe.time += 1;
        let (step, side) = (self.options.max_speed.0 * self.options.slot.0, self.options.side.0);
        for i in 0..self.position.len() {
            let [x, y, z] = self.position[i];
            let place = |choice: usize| {
                let [dx, dy, _] = action::direction(choice);
                [(x + step * dx).clamp(0.0, side), (y + step * dy).clamp(0.0, side), z]
            };
            let mut value = |choice: usize| {
                probe.position[i] = place(choice);
                probe.survey(false, rng);
                probe.associate();
                probe.transmit();
                probe.rates.iter().sum::<f64>()
            };
            let values: Vec<f64> = (0..9).map(&mut value).collect();
            let best = (0..9).max_by(|a, b| values[*a].total_cmp(&values[*b]).then(b.cmp(a))).unwrap_or(0);
            probe.position[i] = place(best);
        }
        probe.position.iter().map(|[x, y, _]| [*x, *y]).collect()
    }

    /// Writes the motion of UAV `i` that brings it to `target` and stops there, at its altitude.
    fn head_for(&self, i: usize, target: [f64; 2], out: &mut [f64]) {
        let options = &self.options;
        let ([x, y, _], v) = (self.position[i], self.velocity[i]);
        let (to, dt, most) = ([target[0] - x, target[1] - y], options.slot.0, options.max_speed.0);
        let far = to[0].hypot(to[1]);
        if options.action.moves() {
            let mut mask = vec![false; self.spec.mask_len()];
            self.write_mask(&mut mask);
            let own = &mask[i * mask.len() / self.position.len()..];
            let missed = |choice: &usize| {
                let [dx, dy, dz] = action::direction(*choice).map(|d| d * most * dt);
                (to[0] - dx).hypot(to[1] - dy) + dz.abs()
            };
            let allowed = (0..action::moves(options)).filter(|choice| own[*choice]);
            out[0] = allowed.min_by(|a, b| missed(a).total_cmp(&missed(b))).unwrap_or(0) as f64;
            return;
        }
        // No faster than can be braked, nor further than the target.
        let braked = match options.steering {
            Steering::Acceleration => (2.0 * options.max_acceleration.0 * far).sqrt(),
            Steering::Velocity => f64::INFINITY,
        };
        let speed = (far / dt).min(most).min(braked);
        let wanted = if far > 0.0 { to.map(|d| d / far * speed) } else { [0.0; 2] };
        for axis in 0..action::axes(options) {
            let wanted = wanted.get(axis).copied().unwrap_or(0.0);
            out[axis] = match options.steering {
                Steering::Acceleration => (wanted - v[axis]) / (options.max_acceleration.0 * dt),
                Steering::Velocity => wanted / most,
            };
            out[axis] = out[axis].clamp(-1.0, 1.0);
        }
    }

    /// Writes users and levels as an action.
    fn encode(&self, assignment: &Assignment, out: &mut [f64]) {
        let (n, shown, m) = (self.options.subchannels.0, self.options.observed.0, self.position.len());
        let own = out.len() / m;
        let head = if self.options.action.moves() { 1 } else { action::axes(&self.options) };
        for i in 0..m {
            let out = &mut out[i * own + head..(i + 1) * own];
            for channel in 0..n {
                let (user, level) = assignment[i * n + channel];
                let seen = self.slots[i * shown..(i + 1) * shown].iter().position(|u| *u == user);
                let choice = seen.map_or(0, |s| s + 1);
                if self.options.action == Action::Continuous {
                    let scores = &mut out[channel * (shown + 1)..(channel + 1) * (shown + 1)];
                    scores.fill(-1.0);
                    scores[choice] = 1.0;
                    out[n * (shown + 1) + channel] = 2.0 * LEVELS[level] - 1.0;
                } else {
                    out[channel] = choice as f64;
                    out[n + channel] = if choice > 0 { level as f64 } else { 0.0 };
                }
            }
        }
    }

    /// The association of [`Action::Motion`], at the present positions.
    pub fn greedy(&self) -> Assignment {
        let mut probe = self.clone();
        probe.associate();
        let full = LEVELS.len() - 1;
        probe.served.iter().map(|user| (*user, if *user == IDLE { 0 } else { full })).collect()
    }

    /// A subchannel for each user, or a user for each subchannel, of the greatest sum of rates without interference, at full
    /// power; users out of reach go without.
    pub fn hungarian(&self) -> Assignment {
        let (k, n, slots) = (self.rates.len(), self.options.subchannels.0, self.served.len());
        let value = |slot: usize, user: usize| {
            let i = slot / n;
            let snr = self.options.power.0 / n as f64 * self.gains[i * k + user] / self.noise;
            if self.in_reach(i, user) { radio::efficiency(snr, self.options.rate_cap.0) } else { 0.0 }
        };
        let mut assignment = vec![(IDLE, 0); slots];
        let mut give = |slot: usize, user: usize| {
            if value(slot, user) > 0.0 {
                assignment[slot] = (user, LEVELS.len() - 1);
            }
        };
        if slots <= k {
            plan::assign(slots, k, value).into_iter().enumerate().for_each(|(slot, user)| give(slot, user));
        } else {
            let columns = plan::assign(k, slots, |user, slot| value(slot, user));
            columns.into_iter().enumerate().for_each(|(user, slot)| give(slot, user));
        }
        assignment
    }

    /// The assignment of the highest sum rate at the present positions, of all there are. Only for small tasks: see
    /// [`Self::sum_rate`] for what is tried.
    pub fn exhaustive(&self) -> Assignment {
        let mut probe = self.clone();
        let (slots, levels) = (self.served.len(), LEVELS.len() - 1);
        let each = 1 + self.rates.len() * levels;
        let decode = |choice: usize| match choice {
            0 => (IDLE, 0),
            c => ((c - 1) / levels, (c - 1) % levels + 1),
        };
        let (mut best, mut most) = (vec![(IDLE, 0); slots], 0.0);
        let mut assignment = best.clone();
        for number in 0..each.pow(slots as u32) {
            let mut rest = number;
            for slot in &mut assignment {
                *slot = decode(rest % each);
                rest /= each;
            }
            let rate = probe.sum_rate(&assignment);
            if rate > most {
                most = rate;
                best.copy_from_slice(&assignment);
            }
        }
        best
    }

    /// Sum rate of an assignment at the present positions, in bit/s; 0 where it serves a user from two UAVs or out of reach.
    /// It takes the place of the last slot's.
    pub fn sum_rate(&mut self, assignment: &Assignment) -> f64 {
        let n = self.options.subchannels.0;
        self.server.fill(IDLE);
        for (slot, (user, level)) in assignment.iter().enumerate() {
            self.served[slot] = *user;
            self.power[slot] = LEVELS[*level];
            if *user == IDLE {
                continue;
            }
            let (i, server) = (slot / n, self.server[*user]);
            if !self.in_reach(i, *user) || server != IDLE && server != i {
                return 0.0;
            }
            self.server[*user] = i;
        }
        self.share_power();
        self.time = self.time.max(1);
        self.transmit();
        self.rates.iter().sum()
    }
}
