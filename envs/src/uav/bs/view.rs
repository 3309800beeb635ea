//! What the UAVs and their critic see.

use super::Bs;
use super::radio::IDLE;
use crate::Graph;
use crate::pen::Pen;
use crate::uav::small::{CLIP, decibels, loudness};

impl Bs {
    /// Place on the map in half sides from its middle, altitude in half sides.
    fn scaled(&self, [x, y, z]: [f64; 3]) -> [f64; 3] {
        let half = 0.5 * self.options.side.0;
        [x / half - 1.0, y / half - 1.0, z / half]
    }

    /// Place, velocity, energy left, time left, share of subchannels in use.
    fn own(&self, i: usize) -> [f64; 9] {
        let options = &self.options;
        let [x, y, z] = self.scaled(self.position[i]);
        let [vx, vy, vz] = self.velocity[i].map(|v| v / options.max_speed.0);
        let n = options.subchannels.0;
        let busy =
            self.served[i * n..(i + 1) * n].iter().filter(|user| **user != IDLE).count() as f64 / n as f64;
        let left = 1.0 - self.time as f64 / options.steps.0 as f64;
        [x, y, z, vx, vy, vz, self.energy[i] / (options.battery.0 * 1e3), left, busy]
    }

    fn distance(&self, i: usize, j: usize) -> f64 {
        let square = |axis: usize| (self.position[j][axis] - self.position[i][axis]).powi(2);
        (0..3).map(square).sum::<f64>().sqrt()
    }

    pub(super) fn observe(&self, obs: &mut [f32]) {
        let options = &self.options;
        let (m, k, n, shown) =
            (self.position.len(), self.rates.len(), options.subchannels.0, options.observed.0);
        let half = 0.5 * options.side.0;
        let mut pen = Pen::on(obs, CLIP);
        for i in 0..m {
            let [x, y, z] = self.position[i];
            pen.numbers(self.own(i));
            if options.show_id {
                (0..m).for_each(|j| pen.flag(i == j));
            }
            for j in (1..m).map(|step| (i + step) % m) {
                if self.distance(i, j) > options.hearing.0 {
                    pen.numbers([0.0; 6]);
                    continue;
                }
                let ([x_, y_, z_], [vx, vy, _]) = (self.position[j], self.velocity[j]);
                let speed = options.max_speed.0;
                pen.numbers([1.0, (x_ - x) / half, (y_ - y) / half, (z_ - z) / half, vx / speed, vy / speed]);
            }
            for user in &self.slots[i * shown..(i + 1) * shown] {
                if !self.in_reach(i, *user) {
                    pen.numbers([0.0; 7]);
                    continue;
                }
                let [x_, y_] = self.users.position[*user];
                pen.numbers([1.0, (x_ - x) / half, (y_ - y) / half, decibels(-self.loss[i * k + user])]);
                pen.numbers([self.rates[*user] / self.reference, self.means[*user] / self.reference]);
                pen.flag(self.server[*user] == i);
            }
            for slot in i * n..(i + 1) * n {
                let user = self.served[slot];
                if user == IDLE {
                    pen.numbers([0.0; 3]);
                    continue;
                }
                let seen = self.slots[i * shown..(i + 1) * shown].iter().position(|u| *u == user);
                let choice = seen.map_or(0.0, |s| (s + 1) as f64 / shown as f64);
                pen.numbers([loudness(self.disturbance[slot]), self.power[slot] / options.power.0, choice]);
            }
        }
    }

    pub(super) fn write_state(&self, state: &mut [f32]) {
        let options = &self.options;
        let mut pen = Pen::on(state, CLIP);
        for (i, (p, v)) in self.position.iter().zip(&self.velocity).enumerate() {
            pen.numbers(self.scaled(*p));
            pen.numbers(v.map(|v| v / options.max_speed.0));
            pen.number(self.energy[i] / (options.battery.0 * 1e3));
        }
        let half = 0.5 * options.side.0;
        for (user, (p, v)) in self.users.position.iter().zip(&self.users.velocity).enumerate() {
            pen.numbers(p.map(|x| x / half - 1.0));
            pen.numbers(v.map(|v| v / options.max_speed.0));
            pen.numbers([self.rates[user] / self.reference, self.means[user] / self.reference]);
        }
        for (user, power) in self.served.iter().zip(&self.power) {
            let number = if *user == IDLE { 0.0 } else { (*user + 1) as f64 / self.rates.len() as f64 };
            pen.numbers([number, power / options.power.0]);
        }
        pen.number(1.0 - self.time as f64 / options.steps.0 as f64);
    }

    pub(super) fn write_graph(&self, graph: Graph) {
        let (m, k, hearing) = (self.position.len(), self.rates.len(), self.options.hearing.0);
        let mut nodes = Pen::on(graph.nodes, CLIP);
        for i in 0..m {
            nodes.numbers(self.own(i));
            let rate: f64 = self
                .rates
                .iter()
                .zip(&self.server)
                .filter(|(_, server)| **server == i)
                .map(|(rate, _)| rate)
                .sum();
            nodes.number(rate * m as f64 / (k as f64 * self.reference));
        }
        let scale = if hearing.is_finite() { hearing } else { self.options.side.0 };
        let mut edges = Pen::on(graph.edges, CLIP);
        for i in 0..m {
            for j in 0..m {
                let distance = self.distance(i, j);
                let hears = distance <= hearing;
                graph.adjacency[i * m + j] = hears;
                if !hears {
                    edges.numbers([0.0; 5]);
                    continue;
                }
                let vector: [f64; 3] =
                    std::array::from_fn(|axis| (self.position[j][axis] - self.position[i][axis]) / scale);
                edges.numbers(vector);
                // The mean over i's users in dB, of the channel from j.
                let own = (0..k).filter(|user| self.server[*user] == i);
                let (count, sum) =
                    own.fold((0.0, 0.0), |(n, sum), user| (n + 1.0, sum - self.loss[j * k + user]));
                edges.numbers([distance / scale, if count > 0.0 { decibels(sum / count) } else { 0.0 }]);
            }
        }
    }
}
