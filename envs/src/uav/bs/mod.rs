//! `uav-bs`: several UAV base stations share the air over moving users.
//!
//! Each UAV is an agent. In a slot of δ = `slot` s it moves, and sends on N = `subchannels` subchannels to
//! users; all UAVs that send on a subchannel disturb each other there. The game is after GA-MATR (Z. Feng, D.
//! Wu, M. Huang and C. Yuen, arXiv 2401.17880): the same class of problem; the constants are our own, and no
//! agreement with its numbers is claimed.
//!
//! - Motion: v ← clip(v + a δ), p ← p + v δ; at a wall p is clipped and the speed into it lost.
//! - Radio: [`super::channel`] and [`super::radio::ofdma`]. A user is served by one UAV: of several that choose
//!   it the one with the best channel, the others' choice is wasted. Powers are levels of ¼, ½ or 1 of
//!   P/N_active, so that no UAV sends more than P = `power`.
//! - Action: see [`Action`]. A user can be chosen while within `sensing` m on the ground; the mask says so.
//! - Observation of UAV i, clipped to ±5: own place, velocity, energy left, time left, share of subchannels in
//!   use, one-hot number (with `show_id`); of each other UAV, from i + 1 on, cyclically: whether within
//!   `hearing` m, and if so where and how fast; of `observed` users: whether within `sensing`, and if so where,
//!   gain in dB, last and mean rate, whether mine; of each subchannel: interference at my user, my power, my
//!   user. Scales: side/2, `max_speed`, R_ref, (x + 120)/60 dB. R_ref is the rate of a subchannel right below a
//!   lone UAV.
//! - Central state: all UAVs (place, velocity, energy), all users (place, velocity, last and mean rate), user
//!   and power of every subchannel, time.
//! - Graph: a UAV hears those within `hearing` m. Node: its own nine numbers, and its rate. Edge: vector and
//!   distance over `hearing`, and gain of j's channel to i's users, in dB.
//! - Reward: x_i = (M/K) Σ R_k/R_ref over the users of i, whose mean over UAVs is the mean rate of all users;
//!   made fair as [`Reward`] says; minus `collision_cost` when nearer than `separation` to another,
//!   `boundary_cost` at a wall, `qos_cost` times the share of users below `min_rate` R_ref, `energy_cost`
//!   P(v)/P(0); then mixed: r_i ← (1 − `team`) r_i + `team` mean r.
//! - Start: anywhere, at rest, `separation` apart.
//! - Terminates when a battery is empty, and on a collision with `crash`; `steps` slots.
//!
//! Presets, each a registered task: `bs-tiny` (M 2, K 4, N 2: the best assignment can be found by trying all),
//! `bs-std` (3, 12, 4; also plain `uav-bs`), `bs-dense` (6, 60, 10), `bs-jam` (`bs-std` with a jammer, an
//! aircraft that circles over the middle and disturbs all subchannels).

mod action;
mod options;
mod policy;
mod view;

pub use action::{Action, Steering};
pub use options::{BsOptions, Order, Reward};
pub use policy::Assignment;

use rand::RngExt as _;

use super::channel::{self, Sight};
use super::mobility::Users;
use super::radio::{self, IDLE};
use super::{energy, picture, plan};
use crate::options::{Fraction, Range};
use crate::{AgentSpec, Env, Graph, GraphShape, Rng, Scene, Space, Spec, State, StateError};

/// Whether the line of sight of a link is free, with its shadowing, and where UAV and user were when that was
/// drawn.
#[derive(Clone, Copy, Debug, Default)]
struct Sighting {
    los: bool,
    shadow: f64,
    offset: [f64; 3],
}

/// What happened in a slot.
#[derive(Clone, Debug, Default)]
struct Events {
    collisions: usize,
    boundary: usize,
    idle: usize,
    wasted: usize,
    watts: f64,
}

/// The task of this module.
#[derive(Clone)]
pub struct Bs {
    spec: Spec,
    options: BsOptions,
    /// σ² in W, R_ref in bit/s, P(0) in W.
    noise: f64,
    reference: f64,
    hover: f64,
    position: Vec<[f64; 3]>,
    velocity: Vec<[f64; 3]>,
    /// Energy left, in J.
    energy: Vec<f64>,
    users: Users,
    /// Place of the jammer on its circle, in turns.
    jammer: f64,
    /// Slots since the start.
    time: usize,
    /// `[M, K]`, as are the next three.
    sightings: Vec<Sighting>,
    ground: Vec<f64>,
    loss: Vec<f64>,
    gains: Vec<f64>,
    /// `[K]`.
    jamming: Vec<f64>,
    /// Users that each UAV observes, `[M, observed]`.
    slots: Vec<usize>,
    /// User and power of each subchannel, and interference at that user, `[M, N]`.
    served: Vec<usize>,
    power: Vec<f64>,
    disturbance: Vec<f64>,
    /// Rates, and means since the start, `[K]`, in bit/s; server of each user, or [`IDLE`].
    rates: Vec<f64>,
    means: Vec<f64>,
    server: Vec<usize>,
    events: Events,
    trail: picture::Trail,
    scratch: Scratch,
}

/// Memory of a step.
#[derive(Clone, Default)]
struct Scratch {
    /// Links and users in order of something.
    order: Vec<(f64, usize)>,
    starts: Vec<[f64; 2]>,
    wall: Vec<bool>,
    close: Vec<bool>,
}

/// A jammer flies at this speed, in m/s.
const JAMMER_SPEED: f64 = 10.0;
/// Gains are noted at least this small, in dB, so that nothing is infinite.
const FAINTEST: f64 = 400.0;

impl Bs {
    /// The task of a registered name with these options, which must not conflict ([`BsOptions::given`]).
    pub fn new(id: &str, options: BsOptions) -> Self {
        let (m, k, n) = (options.uavs.0, options.users.0, options.subchannels.0);
        let shown = options.observed.0;
        let obs_len = 9 + if options.show_id { m } else { 0 } + 6 * (m - 1) + 7 * shown + 3 * n;
        let agent = |i| AgentSpec {
            name: format!("uav_{i}"),
            obs: Space::uniform(obs_len, -5.0, 5.0),
            action: action::space(&options),
        };
        let spec = Spec {
            id: id.to_owned(),
            agents: (0..m).map(agent).collect(),
            max_steps: Some(options.steps.0),
            reward_threshold: None,
            reward_range: (f64::NEG_INFINITY, f64::INFINITY),
            clips_actions: false,
            masked: options.action.is_masked(),
            state_len: 7 * m + 6 * k + 2 * m * n + 1,
            graph: Some(GraphShape { node_len: 10, edge_len: 5 }),
        };
        Self {
            spec,
            noise: options.noise(),
            reference: options.reference_rate(),
            hover: energy::power(0.0),
            position: vec![[0.0; 3]; m],
            velocity: vec![[0.0; 3]; m],
            energy: vec![0.0; m],
            users: Users::new(options.mobility, k, options.side.0),
            jammer: 0.0,
            time: 0,
            sightings: vec![Sighting::default(); m * k],
            ground: vec![0.0; m * k],
            loss: vec![0.0; m * k],
            gains: vec![0.0; m * k],
            jamming: vec![0.0; k],
            slots: vec![0; m * shown],
            served: vec![IDLE; m * n],
            power: vec![0.0; m * n],
            disturbance: vec![0.0; m * n],
            rates: vec![0.0; k],
            means: vec![0.0; k],
            server: vec![IDLE; k],
            events: Events::default(),
            trail: picture::Trail::new(m, options.steps.0),
            scratch: Scratch {
                order: Vec::with_capacity(m * k),
                starts: vec![[0.0; 2]; m],
                wall: vec![false; m],
                close: vec![false; m],
            },
            options,
        }
    }

    /// The options.
    pub fn options(&self) -> &BsOptions {
        &self.options
    }

    /// Rates of the last slot, in bit/s.
    pub fn rates(&self) -> &[f64] {
        &self.rates
    }

    /// Powers of the last slot, `[M, N]`, in W.
    pub fn powers(&self) -> &[f64] {
        &self.power
    }

    /// User of each subchannel in the last slot, `[M, N]`, or [`IDLE`].
    pub fn served(&self) -> &[usize] {
        &self.served
    }

    /// Upper bound of the rate of `user`, at the present positions, by whichever UAV, on all subchannels and
    /// without interference; in bit/s.
    pub fn interference_free(&self, user: usize) -> f64 {
        let k = self.rates.len();
        let best = (0..self.position.len()).map(|i| self.gains[i * k + user]).fold(0.0, f64::max);
        self.alone(best)
    }

    /// Upper bound of the sum rate at the present positions: each UAV serves its best user without
    /// interference.
    pub fn interference_free_sum(&self) -> f64 {
        let best = |row: &[f64]| self.alone(row.iter().copied().fold(0.0, f64::max));
        self.gains.chunks_exact(self.rates.len()).map(best).sum()
    }

    /// Rate of a lone link of that gain with all power on all subchannels. The same gain everywhere: equal
    /// powers are best.
    fn alone(&self, gain: f64) -> f64 {
        let n = self.options.subchannels.0 as f64;
        let snr = self.options.power.0 / n * gain / self.noise;
        n * self.options.hertz() * radio::efficiency(snr, self.options.rate_cap.0)
    }

    /// Where the jammer is.
    fn jammer_place(&self) -> [f64; 2] {
        let side = self.options.side.0;
        plan::on_circle([side / 2.0; 2], side / 4.0, self.jammer)
    }

    /// Channels at the present positions.
    fn survey(&mut self, fresh: bool, rng: &mut Rng) {
        let options = &self.options;
        let k = self.rates.len();
        let reach = (options.half_beam.0 < 90.0).then(|| options.half_beam.0.to_radians().tan());
        for (i, [x, y, h]) in self.position.iter().copied().enumerate() {
            for (user, at) in self.users.position.iter().enumerate() {
                let link = i * k + user;
                let (dx, dy) = (at[0] - x, at[1] - y);
                let r = (dx * dx + dy * dy).sqrt();
                let path = options.surroundings.link(r, h, options.carrier.0);
                let mut loss = path.mean();
                if options.sight == Sight::Sampled {
                    let seen = &mut self.sightings[link];
                    let moved = [dx - seen.offset[0], dy - seen.offset[1], h - seen.offset[2]];
                    if fresh
                        || moved.iter().map(|d| d * d).sum::<f64>()
                            > options.coherence.0 * options.coherence.0
                    {
                        let (los, shadow) = channel::draw_sight(&path, rng);
                        *seen = Sighting { los, shadow, offset: [dx, dy, h] };
                    }
                    let (with, without) = options.surroundings.shadowing(h);
                    loss = if seen.los {
                        path.los + with * seen.shadow
                    } else {
                        path.nlos + without * seen.shadow
                    };
                }
                if reach.is_some_and(|reach| r > h * reach) {
                    loss = FAINTEST;
                }
                let los = if options.sight == Sight::Sampled { self.sightings[link].los } else { true };
                self.ground[link] = r;
                self.loss[link] = loss;
                self.gains[link] = channel::gain(loss) * options.fading.draw(los, rng);
            }
        }
        if options.jammer {
            let place = self.jammer_place();
            let each = options.jammer_power.0 / options.subchannels.0 as f64;
            for (jamming, user) in self.jamming.iter_mut().zip(&self.users.position) {
                let path = options.surroundings.link(
                    plan::distance(place, *user),
                    options.altitude.1,
                    options.carrier.0,
                );
                *jamming = each * channel::gain(path.mean());
            }
        }
        self.look();
    }

    /// Settles which users each UAV observes.
    fn look(&mut self) {
        let (k, shown) = (self.rates.len(), self.options.observed.0);
        for (i, slots) in self.slots.chunks_exact_mut(shown).enumerate() {
            if self.options.order == Order::Index {
                slots.iter_mut().enumerate().for_each(|(s, user)| *user = s);
                continue;
            }
            let order = &mut self.scratch.order;
            order.clear();
            order.extend(self.ground[i * k..(i + 1) * k].iter().copied().zip(0..k));
            let by = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            if shown < k {
                order.select_nth_unstable_by(shown - 1, by);
            }
            order[..shown].sort_unstable_by(by);
            slots.iter_mut().zip(order.iter()).for_each(|(slot, (_, user))| *slot = *user);
        }
    }

    /// Whether UAV `i` may serve `user`.
    fn in_reach(&self, i: usize, user: usize) -> bool {
        self.ground[i * self.rates.len() + user] <= self.options.sensing.0
    }

    /// Transmits with the present assignment and powers: rates, their means, servers.
    fn transmit(&mut self) {
        let (k, n) = (self.rates.len(), self.options.subchannels.0);
        self.rates.fill(0.0);
        self.server.fill(IDLE);
        let hertz = self.options.hertz();
        for slot in 0..self.served.len() {
            let (user, i) = (self.served[slot], slot / n);
            self.disturbance[slot] = 0.0;
            if user == IDLE {
                continue;
            }
            let disturbance =
                radio::interference(&self.gains, &self.power, n, i, slot % n, user, k) + self.jamming[user];
            let sinr = self.power[slot] * self.gains[i * k + user] / (disturbance + self.noise);
            self.disturbance[slot] = disturbance;
            self.rates[user] += hertz * radio::efficiency(sinr, self.options.rate_cap.0);
            self.server[user] = i;
        }
        let t = self.time as f64;
        for (mean, rate) in self.means.iter_mut().zip(&self.rates) {
            *mean += (rate - *mean) / t;
        }
    }

    /// Moves every UAV by the velocities and accelerations of the action; notes walls and collisions, spends
    /// energy.
    fn fly(&mut self) {
        let options = &self.options;
        let (dt, side, Range(low, high)) = (options.slot.0, options.side.0, options.altitude);
        for i in 0..self.position.len() {
            let (p, v) = (&mut self.position[i], &mut self.velocity[i]);
            self.scratch.wall[i] = false;
            for axis in 0..3 {
                let (least, most) = if axis < 2 { (0.0, side) } else { (low, high) };
                let next = p[axis] + v[axis] * dt;
                p[axis] = next.clamp(least, most);
                // A rounding is no wall.
                if (next - p[axis]).abs() > 1e-6 {
                    v[axis] = 0.0;
                    self.scratch.wall[i] = true;
                }
            }
            let watts = energy::power(v[0].hypot(v[1]));
            self.energy[i] = (self.energy[i] - watts * dt).max(0.0);
            self.events.watts += watts;
        }
        self.events.boundary = self.scratch.wall.iter().filter(|w| **w).count();
        self.scratch.close.fill(false);
        for i in 0..self.position.len() {
            for j in 0..i {
                let square: f64 =
                    (0..3).map(|axis| (self.position[i][axis] - self.position[j][axis]).powi(2)).sum();
                if square < options.separation.0 * options.separation.0 {
                    self.scratch.close[i] = true;
                    self.scratch.close[j] = true;
                    self.events.collisions += 1;
                }
            }
        }
    }

    /// What is saved of `f64` numbers, by name.
    fn tables(&self) -> [(&'static str, &[f64]); 12] {
        [
            ("position", self.position.as_flattened()),
            ("velocity", self.velocity.as_flattened()),
            ("energy", &self.energy),
            ("jammer", std::slice::from_ref(&self.jammer)),
            ("ground", &self.ground),
            ("loss", &self.loss),
            ("gains", &self.gains),
            ("jamming", &self.jamming),
            ("power", &self.power),
            ("disturbance", &self.disturbance),
            ("rates", &self.rates),
            ("means", &self.means),
        ]
    }

    /// As [`Self::tables`], to be written.
    fn tables_mut(&mut self) -> [(&'static str, &mut [f64]); 12] {
        [
            ("position", self.position.as_flattened_mut()),
            ("velocity", self.velocity.as_flattened_mut()),
            ("energy", &mut self.energy),
            ("jammer", std::slice::from_mut(&mut self.jammer)),
            ("ground", &mut self.ground),
            ("loss", &mut self.loss),
            ("gains", &mut self.gains),
            ("jamming", &mut self.jamming),
            ("power", &mut self.power),
            ("disturbance", &mut self.disturbance),
            ("rates", &mut self.rates),
            ("means", &mut self.means),
        ]
    }

    fn pay(&self, reward: &mut [f64]) {
        let options = &self.options;
        let (m, k) = (reward.len() as f64, self.rates.len() as f64);
        reward.fill(0.0);
        for (rate, server) in self.rates.iter().zip(&self.server).filter(|(_, server)| **server != IDLE) {
            reward[*server] += m / k * rate / self.reference;
        }
        let scaled = || self.means.iter().map(|mean| mean / self.reference);
        match options.reward {
            Reward::Rate => {}
            Reward::Fair => {
                let fairness = radio::jain(&self.means);
                reward.iter_mut().for_each(|r| *r *= fairness);
            }
            Reward::Std => {
                let mean = scaled().sum::<f64>() / k;
                let deviation = (scaled().map(|x| (x - mean) * (x - mean)).sum::<f64>() / k).sqrt();
                reward.iter_mut().for_each(|r| *r -= options.std_weight.0 * deviation);
            }
            Reward::Pf => reward.fill(scaled().map(|x| (1e-3 + x).ln()).sum::<f64>() / k),
            Reward::MaxMin => reward.fill(scaled().fold(f64::INFINITY, f64::min)),
        }
        let poor = options.min_rate.0 * self.reference;
        let short = self.rates.iter().filter(|rate| **rate < poor).count() as f64 / k;
        for (i, r) in reward.iter_mut().enumerate() {
            let [vx, vy, _] = self.velocity[i];
            *r -=
                options.qos_cost.0 * short + options.energy_cost.0 * energy::power(vx.hypot(vy)) / self.hover;
            *r -= if self.scratch.close[i] { options.collision_cost.0 } else { 0.0 };
            *r -= if self.scratch.wall[i] { options.boundary_cost.0 } else { 0.0 };
        }
        let mean = reward.iter().sum::<f64>() / m;
        let Fraction(team) = options.team;
        reward.iter_mut().for_each(|r| *r = (1.0 - team) * *r + team * mean);
    }
}

impl Env for Bs {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        let Range(low, high) = self.options.altitude;
        plan::scatter(&mut self.scratch.starts, self.options.side.0, self.options.separation.0, rng);
        for (p, [x, y]) in self.position.iter_mut().zip(&self.scratch.starts) {
            *p = [*x, *y, low + (high - low) * rng.random::<f64>()];
        }
        self.velocity.fill([0.0; 3]);
        self.energy.fill(self.options.battery.0 * 1e3);
        self.users.place(rng);
        self.jammer = rng.random();
        self.time = 0;
        self.served.fill(IDLE);
        self.server.fill(IDLE);
        for table in
            [&mut self.power, &mut self.disturbance, &mut self.rates, &mut self.means, &mut self.jamming]
        {
            table.fill(0.0);
        }
        self.events = Events::default();
        self.survey(true, rng);
        self.trail.restart(&self.position);
        self.observe(obs);
    }

    fn step(&mut self, action: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        self.events = Events::default();
        self.steer(action);
        self.choose(action);
        self.fly();
        self.time += 1;
        self.users.step(self.options.slot.0, rng);
        let around = std::f64::consts::TAU * self.options.side.0 / 4.0;
        self.jammer = (self.jammer + JAMMER_SPEED * self.options.slot.0 / around).fract();
        self.survey(false, rng);
        if self.options.action.assigns() {
            self.share_power()
        } else {
            self.associate()
        }
        self.transmit();
        self.pay(reward);
        let least = self.means.iter().copied().fold(f64::INFINITY, f64::min);
        let users = self.rates.len() as f64;
        self.trail.push(&self.position, [self.rates.iter().sum::<f64>() * 1e-6, least * users * 1e-6]);
        self.observe(obs);
        self.energy.iter().any(|left| *left <= 0.0) || self.options.crash && self.events.collisions > 0
    }

    fn mask(&self, mask: &mut [bool]) {
        self.write_mask(mask);
    }

    fn central_state(&self, state: &mut [f32]) {
        self.write_state(state);
    }

    fn graph(&self, graph: Graph) {
        self.write_graph(graph);
    }

    fn info(&self) -> Vec<(&'static str, f64)> {
        let k = self.rates.len() as f64;
        let poor = self.options.min_rate.0 * self.reference;
        vec![
            ("sum_rate_mbps", self.rates.iter().sum::<f64>() * 1e-6),
            ("sum_rate_bound_mbps", self.interference_free_sum() * 1e-6),
            ("min_mean_rate_mbps", self.means.iter().copied().fold(f64::INFINITY, f64::min) * 1e-6),
            ("jain", radio::jain(&self.means)),
            ("coverage", self.rates.iter().filter(|rate| **rate >= poor && **rate > 0.0).count() as f64 / k),
            ("collisions", self.events.collisions as f64),
            ("boundary", self.events.boundary as f64),
            ("watts", self.events.watts),
            ("idle", self.events.idle as f64),
            ("wasted", self.events.wasted as f64),
        ]
    }

    fn comparators(&self) -> &'static [&'static str] {
        self.policies()
    }

    fn comparator_action(&self, name: &str, rng: &mut Rng, action: &mut [f64]) -> bool {
        self.policy(name, rng, action)
    }

    fn save(&self, state: &mut State) {
        for (name, table) in self.tables() {
            state.put_f64(name, table);
        }
        self.users.save(state);
        let sighting =
            |s: &Sighting| [if s.los { 1.0 } else { 0.0 }, s.shadow, s.offset[0], s.offset[1], s.offset[2]];
        state.put_f64("sightings", self.sightings.iter().map(sighting).collect::<Vec<_>>().as_flattened());
        state.put_u64("time", &[self.time as u64]);
        state.put_u64("served", &self.served.iter().map(|user| *user as u64).collect::<Vec<_>>());
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let (k, n) = (self.rates.len(), self.options.subchannels.0);
        let invalid = |name: &str, why: String| StateError::Invalid { name: name.to_owned(), why };
        for (name, table) in self.tables() {
            if let Some(x) = state.f64(name, table.len())?.iter().find(|x| !x.is_finite()) {
                return Err(invalid(name, format!("a number is {x}")));
            }
        }
        let sightings = state.f64("sightings", 5 * self.sightings.len())?;
        let time = state.u64("time", 1)?[0] as usize;
        let served = state.u64("served", self.served.len())?;
        if let Some(user) = served.iter().find(|user| **user >= k as u64 && **user != IDLE as u64) {
            return Err(invalid("served", format!("there is no user {user}")));
        }
        self.users.load(state)?;
        for (name, table) in self.tables_mut() {
            let len = table.len();
            table.copy_from_slice(state.f64(name, len)?);
        }
        for (s, x) in self.sightings.iter_mut().zip(sightings.chunks_exact(5)) {
            *s = Sighting { los: x[0] != 0.0, shadow: x[1], offset: [x[2], x[3], x[4]] };
        }
        self.time = time;
        self.server.fill(IDLE);
        for (slot, user) in served.iter().enumerate() {
            self.served[slot] = *user as usize;
            if *user != IDLE as u64 {
                self.server[*user as usize] = slot / n;
            }
        }
        self.events = Events::default();
        self.look();
        self.trail.restart(&self.position);
        Ok(())
    }

    fn scene(&self) -> Option<Scene> {
        let links = self.served.iter().enumerate().filter(|(_, user)| **user != IDLE);
        let links = links.map(|(slot, user)| (slot / self.options.subchannels.0, *user));
        let jammer = self.options.jammer.then(|| self.jammer_place());
        let most = self.options.hover_bound() * self.reference * self.rates.len() as f64 * 1e-6;
        let area = picture::Area {
            low: [0.0; 2],
            side: self.options.side.0,
            altitude: (0.0, 1.25 * self.options.altitude.1),
            curves: [("sum of the rates", most, "Mbit/s"), ("users x the worst mean rate", most, "Mbit/s")],
            steps: self.options.steps.0,
            slot: self.options.slot.0,
        };
        Some(picture::draw(&area, &self.trail, &self.position, &self.users.position, links, jammer))
    }
}
