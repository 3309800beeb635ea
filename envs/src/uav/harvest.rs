//! `uav-harvest`: collect the data of sensors, and be back on the ground before the battery is empty.
//!
//! M UAVs start on a landing zone in a corner. K sensors hold up to `most_data` Mbit each; in a slot each UAV
//! receives from the sensor with data left that it hears best, no sensor twice, each on a band of its own.
//! After J. Bayerlein et al., without buildings and on a continuous map; the constants are our own.
//!
//! - Action: `discrete`, one of six: east, north, west, south at full speed, hover, land; walls, and landing
//!   outside of the zone, are masked. Or `continuous`: velocity, and whether to land (above 0; without effect
//!   elsewhere). Who has landed stays.
//! - Channel: [`super::channel`], mean path loss. Energy: [`super::energy`] while in the air.
//! - Observation: own place, energy left, time left, landed, in the zone; of each other UAV place and landed;
//!   of each sensor place, gain in dB, data left. The central state is the joint observation. Graph: all hear
//!   all; a node is the own six numbers, an edge the vector and the distance.
//! - Reward: 1 for each Mbit received; −0.1 for a slot at full speed, in proportion; −1 at a wall; −10 for an
//!   empty battery.
//! - Terminates when all have landed, or a battery is empty; `steps` slots. Success: all landed with all data.
//!
//! No policy collects more than [`Harvest::data`].
//!
//! Source: H. Bayerlein, M. Theile, M. Caccamo and D. Gesbert, *Multi-UAV path planning for wireless data
//! harvesting with deep reinforcement learning*, 2021.

use rand::RngExt as _;

use super::channel::{self, Surroundings};
use super::small::{CLIP, decibels};
use super::{energy, picture, plan, radio};
use crate::options::{Few, Limit, Options as _, Positive, Scale, Steps, choice, options};
use crate::pen::Pen;
use crate::{AgentSpec, Env, Graph, GraphShape, OptionError, Rng, Scene, Space, Spec, State, StateError};

choice! {
    /// Forms of the action.
    pub enum Moves: "discrete or continuous" {
        /// Six moves.
        Discrete = "discrete",
        /// Numbers.
        Continuous = "continuous",
    }
}

options! {
    /// Options of [`Harvest`].
    pub struct HarvestOptions {
        /// UAVs, M: 1 to 3.
        uavs: Few = Few(1),
        /// Sensors, K.
        sensors: Few = Few(6),
        /// Form of the action.
        action: Moves = Moves::Discrete,
        /// Least and most data of a sensor: the least, in Mbit.
        least_data: Scale = Scale(10.0),
        /// The most, in Mbit.
        most_data: Positive = Positive(40.0),
        /// Side of the square, in m.
        side: Positive = Positive(600.0),
        /// Side of the landing zone, in m.
        zone: Positive = Positive(60.0),
        /// Altitude of flight, in m.
        altitude: Positive = Positive(50.0),
        /// Highest speed, in m/s.
        max_speed: Positive = Positive(15.0),
        /// Length of a slot, in s.
        slot: Positive = Positive(1.0),
        /// Slots of an episode.
        steps: Steps = Steps(250),
        /// Energy at the start, in kJ.
        battery: Positive = Positive(20.0),
        /// Surroundings of the channel.
        surroundings: Surroundings = Surroundings::Urban,
        /// Carrier, in GHz.
        carrier: Positive = Positive(2.0),
        /// Bandwidth of a UAV, in kHz.
        bandwidth: Positive = Positive(180.0),
        /// Power of a sensor, in W.
        power: Positive = Positive(0.01),
        /// Thermal noise, in dBm/Hz.
        noise_density: f64 = -174.0,
        /// Noise figure of a receiver, in dB.
        noise_figure: Scale = Scale(7.0),
        /// Highest spectral efficiency, in bit/s/Hz.
        rate_cap: Limit = Limit(7.4),
    }
}

impl HarvestOptions {
    /// The one preset there is.
    pub fn preset(_: &str) -> Self {
        Self::default()
    }

    /// The options given as text.
    ///
    /// # Errors
    /// For an unknown option, a value that it does not take, and values that do not go together.
    pub fn given(id: &str, given: &[(&str, &str)]) -> Result<Self, OptionError> {
        let options = Self::default().with(id, given)?;
        let (lowest, highest) = options.surroundings.altitudes();
        let altitude = options.altitude.0;
        let why = if options.uavs.0 > 3 {
            format!("uavs = {} are more than 3", options.uavs.0)
        } else if options.least_data.0 > options.most_data.0 {
            format!("least_data = {} exceeds most_data = {}", options.least_data.0, options.most_data.0)
        } else if options.zone.0 > options.side.0 {
            format!("zone = {} m is larger than side = {} m", options.zone.0, options.side.0)
        } else if !(lowest..=highest).contains(&altitude) {
            format!("altitude = {altitude} m is outside [{lowest}, {highest}], that of the surroundings")
        } else {
            return Ok(options);
        };
        Err(OptionError::Conflict { env: id.to_owned(), why })
    }
}

/// Moves of the discrete action: four directions, then these.
const DIRECTIONS: [[f64; 2]; 4] = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]];
const HOVER: usize = 4;
const LAND: usize = 5;
const CHOICES: usize = 6;

/// The task of this module.
pub struct Harvest {
    spec: Spec,
    options: HarvestOptions,
    noise: f64,
    position: Vec<[f64; 2]>,
    landed: Vec<bool>,
    /// Energy left, in J.
    energy: Vec<f64>,
    sensors: Vec<[f64; 2]>,
    /// Data left, in bit, and at the start.
    data: Vec<f64>,
    total: f64,
    time: usize,
    /// `[M, K]`, in dB.
    loss: Vec<f64>,
    /// Sensor that each UAV received from in the last slot.
    heard: Vec<Option<usize>>,
    places: Vec<[f64; 3]>,
    trail: picture::Trail,
}

impl Harvest {
    /// The task of a registered name with these options, which must not conflict ([`HarvestOptions::given`]).
    pub fn new(id: &str, options: HarvestOptions) -> Self {
        let (m, k) = (options.uavs.0, options.sensors.0);
        let discrete = options.action == Moves::Discrete;
        let action = if discrete { Space::Discrete(CHOICES) } else { Space::uniform(3, -1.0, 1.0) };
        let obs = Space::uniform(6 + 3 * (m - 1) + 4 * k, -5.0, 5.0);
        let agent = |i| AgentSpec { name: format!("uav_{i}"), obs: obs.clone(), action: action.clone() };
        let spec = Spec {
            id: id.to_owned(),
            agents: (0..m).map(agent).collect(),
            max_steps: Some(options.steps.0),
            reward_threshold: None,
            reward_range: (-11.1, f64::INFINITY),
            clips_actions: false,
            masked: discrete,
            state_len: 0,
            graph: Some(GraphShape { node_len: 6, edge_len: 3 }),
        };
        Self {
            spec,
            noise: radio::noise(options.bandwidth.0 * 1e3, options.noise_density, options.noise_figure.0),
            position: vec![[0.0; 2]; m],
            landed: vec![false; m],
            energy: vec![0.0; m],
            sensors: vec![[0.0; 2]; k],
            data: vec![0.0; k],
            total: 0.0,
            time: 0,
            loss: vec![0.0; m * k],
            heard: vec![None; m],
            places: vec![[0.0; 3]; m],
            trail: picture::Trail::new(m, options.steps.0),
            options,
        }
    }

    /// Data that there was at the start, in Mbit: an upper bound of what is collected.
    pub fn data(&self) -> f64 {
        self.total * 1e-6
    }

    fn in_zone(&self, i: usize) -> bool {
        self.position[i].iter().all(|x| *x <= self.options.zone.0 + 1e-6)
    }

    /// Whether a discrete choice is allowed to UAV `i`.
    fn allows(&self, i: usize, choice: usize) -> bool {
        let (step, side) = (self.options.max_speed.0 * self.options.slot.0, self.options.side.0);
        match choice {
            _ if self.landed[i] => choice == LAND,
            HOVER => true,
            LAND => self.in_zone(i),
            _ => (0..2).all(|axis| {
                (-1e-6..=side + 1e-6).contains(&(self.position[i][axis] + step * DIRECTIONS[choice][axis]))
            }),
        }
    }

    fn survey(&mut self) {
        let k = self.sensors.len();
        for link in 0..self.loss.len() {
            let r = plan::distance(self.position[link / k], self.sensors[link % k]);
            self.loss[link] =
                self.options.surroundings.link(r, self.options.altitude.0, self.options.carrier.0).mean();
        }
        for (i, place) in self.places.iter_mut().enumerate() {
            let [x, y] = self.position[i];
            *place = [x, y, if self.landed[i] { 0.0 } else { self.options.altitude.0 }];
        }
    }

    /// Receives a slot's data, and adds what each UAV got, in Mbit.
    fn receive(&mut self, reward: &mut [f64]) {
        let k = self.sensors.len();
        self.heard.fill(None);
        for _ in 0..self.position.len() {
            let mut best: Option<(usize, usize)> = None;
            for i in (0..self.position.len()).filter(|i| !self.landed[*i] && self.heard[*i].is_none()) {
                for sensor in (0..k).filter(|s| self.data[*s] > 0.0 && !self.heard.contains(&Some(*s))) {
                    if best.is_none_or(|(j, other)| self.loss[i * k + sensor] < self.loss[j * k + other]) {
                        best = Some((i, sensor));
                    }
                }
            }
            let Some((i, sensor)) = best else { break };
            self.heard[i] = Some(sensor);
            let snr = self.options.power.0 * channel::gain(self.loss[i * k + sensor]) / self.noise;
            let rate = self.options.bandwidth.0 * 1e3 * radio::efficiency(snr, self.options.rate_cap.0);
            let bits = (rate * self.options.slot.0).min(self.data[sensor]);
            self.data[sensor] -= bits;
            reward[i] += bits * 1e-6;
        }
    }

    fn own(&self, i: usize) -> [f64; 6] {
        let (half, flag) = (0.5 * self.options.side.0, |x: bool| if x { 1.0 } else { 0.0 });
        let [x, y] = self.position[i];
        let left = 1.0 - self.time as f64 / self.options.steps.0 as f64;
        let energy = self.energy[i] / (self.options.battery.0 * 1e3);
        [x / half - 1.0, y / half - 1.0, energy, left, flag(self.landed[i]), flag(self.in_zone(i))]
    }

    fn observe(&self, obs: &mut [f32]) {
        let (m, k, half) = (self.position.len(), self.sensors.len(), 0.5 * self.options.side.0);
        let mut pen = Pen::on(obs, CLIP);
        for i in 0..m {
            let [x, y] = self.position[i];
            pen.numbers(self.own(i));
            for j in (1..m).map(|step| (i + step) % m) {
                let [x_, y_] = self.position[j];
                pen.numbers([(x_ - x) / half, (y_ - y) / half]);
                pen.flag(self.landed[j]);
            }
            for (sensor, [x_, y_]) in self.sensors.iter().enumerate() {
                let left = self.data[sensor] * 1e-6 / self.options.most_data.0;
                let gain = decibels(-self.loss[i * k + sensor]);
                pen.numbers([(x_ - x) / half, (y_ - y) / half, gain, left]);
            }
        }
    }

    /// Where UAV `i` goes next under the policy of that name; `None` to land.
    fn target(&self, policy: &str, i: usize) -> Option<[f64; 2]> {
        let speed = self.options.max_speed.0;
        let home = [0.5 * self.options.zone.0; 2];
        // Moves along the axes go the long way round; a tenth more, and some slots to spare.
        let way = (self.position[i][0] - home[0]).abs() + (self.position[i][1] - home[1]).abs();
        let watts = energy::power(speed).max(energy::power(0.0));
        let reserve = watts * (1.1 * way / speed + 8.0 * self.options.slot.0);
        let slots = self.options.steps.0.saturating_sub(self.time) as f64;
        let late = slots * self.options.slot.0 <= 1.1 * way / speed + 8.0 * self.options.slot.0;
        let mut left: Vec<usize> = (0..self.sensors.len()).filter(|s| self.data[*s] > 0.0).collect();
        if left.is_empty() || late || self.energy[i] <= reserve {
            return if self.in_zone(i) { None } else { Some(home) };
        }
        if policy == "tour" {
            // Of the round of all sensors each UAV has a part; when that is done, it helps the others.
            let order = plan::tour(&self.sensors);
            let part = order.len().div_ceil(self.position.len());
            let own: Vec<usize> = order.chunks(part).nth(i).unwrap_or(&[]).to_vec();
            let rest: Vec<usize> = own.into_iter().filter(|s| self.data[*s] > 0.0).collect();
            if let Some(next) = rest.first() {
                return Some(self.sensors[*next]);
            }
        }
        let far = |s: &usize| plan::distance(self.position[i], self.sensors[*s]);
        left.sort_by(|a, b| far(a).total_cmp(&far(b)));
        Some(self.sensors[left[0]])
    }
}

impl Env for Harvest {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        let (side, zone) = (self.options.side.0, self.options.zone.0);
        self.position.iter_mut().for_each(|p| *p = std::array::from_fn(|_| zone * rng.random::<f64>()));
        self.sensors.iter_mut().for_each(|s| *s = std::array::from_fn(|_| side * rng.random::<f64>()));
        let (least, most) = (self.options.least_data.0, self.options.most_data.0);
        self.data.iter_mut().for_each(|d| *d = 1e6 * (least + (most - least) * rng.random::<f64>()));
        self.total = self.data.iter().sum();
        self.landed.fill(false);
        self.energy.fill(self.options.battery.0 * 1e3);
        self.heard.fill(None);
        self.time = 0;
        self.survey();
        self.trail.restart(&self.places);
        self.observe(obs);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let (m, dt, side) = (self.position.len(), self.options.slot.0, self.options.side.0);
        reward.fill(0.0);
        let mut empty = false;
        for (i, own) in action.chunks_exact(action.len() / m).enumerate() {
            if self.landed[i] {
                continue;
            }
            let (velocity, lands) = match self.options.action {
                Moves::Discrete => {
                    let choice = own[0] as usize;
                    (DIRECTIONS.get(choice).copied().unwrap_or([0.0; 2]), choice == LAND)
                }
                Moves::Continuous => {
                    let speed = own[0].hypot(own[1]).max(1.0);
                    ([own[0] / speed, own[1] / speed], own[2] > 0.0)
                }
            };
            if lands && self.in_zone(i) {
                self.landed[i] = true;
                continue;
            }
            let speed = velocity[0].hypot(velocity[1]);
            let mut wall = false;
            for axis in 0..2 {
                let next = self.position[i][axis] + self.options.max_speed.0 * dt * velocity[axis];
                self.position[i][axis] = next.clamp(0.0, side);
                // A rounding is no wall.
                wall |= (next - self.position[i][axis]).abs() > 1e-6;
            }
            reward[i] -= 0.1 * speed + if wall { 1.0 } else { 0.0 };
            self.energy[i] = (self.energy[i] - energy::power(self.options.max_speed.0 * speed) * dt).max(0.0);
            if self.energy[i] == 0.0 {
                reward[i] -= 10.0;
                empty = true;
            }
        }
        self.time += 1;
        self.survey();
        let before: f64 = self.data.iter().sum();
        self.receive(reward);
        let left: f64 = self.data.iter().sum();
        self.trail.push(&self.places, [(before - left) * 1e-6 / dt, 1.0 - left / self.total]);
        self.observe(obs);
        empty || self.landed.iter().all(|landed| *landed)
    }

    fn mask(&self, mask: &mut [bool]) {
        for (slot, flag) in mask.iter_mut().enumerate() {
            *flag = self.allows(slot / CHOICES, slot % CHOICES);
        }
    }

    fn graph(&self, graph: Graph) {
        let (m, half) = (self.position.len(), 0.5 * self.options.side.0);
        graph.adjacency.fill(true);
        let mut nodes = Pen::on(graph.nodes, CLIP);
        (0..m).for_each(|i| nodes.numbers(self.own(i)));
        let mut edges = Pen::on(graph.edges, CLIP);
        for pair in 0..m * m {
            let (from, to) = (self.position[pair / m], self.position[pair % m]);
            edges.numbers([
                (to[0] - from[0]) / half,
                (to[1] - from[1]) / half,
                plan::distance(from, to) / half,
            ]);
        }
    }

    fn info(&self) -> Vec<(&'static str, f64)> {
        let left: f64 = self.data.iter().sum();
        let landed = self.landed.iter().filter(|landed| **landed).count();
        let success = landed == self.landed.len() && left == 0.0;
        vec![
            ("collected_mbit", (self.total - left) * 1e-6),
            ("collected_bound_mbit", self.data()),
            ("landed", landed as f64),
            ("success", if success { 1.0 } else { 0.0 }),
        ]
    }

    fn comparators(&self) -> &'static [&'static str] {
        &["tour", "nearest"]
    }

    fn comparator_action(&self, name: &str, _: &mut Rng, action: &mut [f64]) -> bool {
        if !self.comparators().contains(&name) {
            return false;
        }
        let own = action.len() / self.position.len();
        let reach = self.options.max_speed.0 * self.options.slot.0;
        for (i, action) in action.chunks_exact_mut(own).enumerate() {
            let target = self.target(name, i);
            let [x, y] = self.position[i];
            let [dx, dy] = target.map_or([0.0; 2], |[tx, ty]| [tx - x, ty - y]);
            match self.options.action {
                Moves::Discrete => {
                    let missed = |choice: &usize| {
                        let [ux, uy] = DIRECTIONS.get(*choice).copied().unwrap_or([0.0; 2]);
                        (dx - reach * ux).hypot(dy - reach * uy)
                    };
                    let moves = (0..LAND).filter(|choice| self.allows(i, *choice));
                    let best = moves.min_by(|a, b| missed(a).total_cmp(&missed(b)));
                    action[0] = if target.is_none() { LAND } else { best.unwrap_or(LAND) } as f64;
                }
                Moves::Continuous => {
                    let far = dx.hypot(dy).max(1e-9);
                    let speed = (far / reach).min(1.0);
                    action.copy_from_slice(&[
                        dx / far * speed,
                        dy / far * speed,
                        if target.is_none() { 1.0 } else { -1.0 },
                    ]);
                }
            }
        }
        true
    }

    fn save(&self, state: &mut State) {
        state.put_f64("position", self.position.as_flattened());
        state.put_f64("energy", &self.energy);
        state.put_f64("sensors", self.sensors.as_flattened());
        state.put_f64("data", &self.data);
        state.put_f64("total", &[self.total]);
        state.put_u64("landed", &self.landed.iter().map(|landed| u64::from(*landed)).collect::<Vec<_>>());
        state.put_u64("time", &[self.time as u64]);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let position = state.f64("position", 2 * self.position.len())?;
        let energy = state.f64("energy", self.energy.len())?;
        let sensors = state.f64("sensors", 2 * self.sensors.len())?;
        let data = state.f64("data", self.data.len())?;
        let total = state.f64("total", 1)?;
        let landed = state.u64("landed", self.landed.len())?;
        let time = state.u64("time", 1)?[0] as usize;
        if let Some(x) = [position, energy, sensors, data, total].concat().iter().find(|x| !x.is_finite()) {
            return Err(StateError::Invalid { name: "position".to_owned(), why: format!("a number is {x}") });
        }
        self.position.as_flattened_mut().copy_from_slice(position);
        self.energy.copy_from_slice(energy);
        self.sensors.as_flattened_mut().copy_from_slice(sensors);
        self.data.copy_from_slice(data);
        self.total = total[0];
        self.landed.iter_mut().zip(landed).for_each(|(to, from)| *to = *from != 0);
        self.time = time;
        self.heard.fill(None);
        self.survey();
        self.trail.restart(&self.places);
        Ok(())
    }

    fn scene(&self) -> Option<Scene> {
        let links = self.heard.iter().enumerate().filter_map(|(i, sensor)| sensor.map(|sensor| (i, sensor)));
        let area = picture::Area {
            low: [0.0; 2],
            side: self.options.side.0,
            altitude: (0.0, 1.25 * self.options.altitude.0),
            curves: [
                ("data received", 1.5 * self.position.len() as f64, "Mbit/s"),
                ("share of the data collected", 1.0, ""),
            ],
            steps: self.options.steps.0,
            slot: self.options.slot.0,
        };
        let mut scene = picture::draw(&area, &self.trail, &self.places, &self.sensors, links, None);
        scene.shapes.insert(
            0,
            picture::frame(0.0, 0.0, self.options.zone.0 / area.side, self.options.zone.0 / area.side),
        );
        Some(scene)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compare, make_with};

    #[test]
    fn tours_bring_the_data_home() {
        for action in ["discrete", "continuous"] {
            for uavs in ["1", "3"] {
                let given = [("action", action), ("uavs", uavs)];
                let scores = compare::scores(&|| make_with("uav-harvest", &given).unwrap(), 30, 0);
                println!(
                    "{action} {uavs}: {:?}",
                    scores.iter().map(|s| (s.policy, s.mean)).collect::<Vec<_>>()
                );
                let m: f64 = uavs.parse().unwrap();
                for s in &scores[1..] {
                    assert!(s.mean > scores[0].mean + 5.0 * s.error.max(0.5), "{scores:?}");
                    // On average 150 Mbit; each UAV's share less its moves.
                    assert!(s.mean * m < 150.0 + 20.0 && s.mean * m > 90.0, "{scores:?}");
                }
            }
        }
    }

    /// Plays the tour with this battery and says how it ended.
    fn play(battery: &str) -> Vec<(&'static str, f64)> {
        let mut env = make_with("uav-harvest", &[("battery", battery)]).unwrap();
        let mut rng = crate::rng::stream(3, crate::rng::Purpose::Check, 0);
        let (mut obs, mut reward, mut action) = (vec![0.0; env.spec().obs_len()], [0.0], [0.0]);
        env.reset(&mut rng, &mut obs);
        let mut mask = [false; CHOICES];
        for t in 1..=250 {
            env.comparator_action("tour", &mut rng, &mut action);
            env.mask(&mut mask);
            assert!(mask[action[0] as usize], "slot {t}");
            if env.step(&action, &mut rng, &mut obs, &mut reward) {
                break;
            }
        }
        env.info()
    }

    #[test]
    fn with_little_energy_it_comes_home_early() {
        let (rich, poor) = (play("60"), play("8"));
        assert_eq!((rich[3].1, poor[3].1), (1.0, 0.0), "success: {rich:?}, {poor:?}");
        assert_eq!((rich[2].1, poor[2].1), (1.0, 1.0), "landed: {rich:?}, {poor:?}");
        assert!((rich[0].1 - rich[1].1).abs() < 1e-9 && poor[0].1 < poor[1].1);
    }
}
