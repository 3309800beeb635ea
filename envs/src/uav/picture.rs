//! What an episode with UAVs looks like: a map with users, ways flown so far and serving links; beside it the rates and the
//! altitudes over time.

use crate::scene::{Paint, Shape, ball, line, slab};
use crate::{Scene, scene};

/// Where UAVs were and what was sent, slot by slot. It holds an episode without growing.
#[derive(Clone, Debug)]
pub struct Trail {
    uavs: usize,
    places: Vec<[f64; 3]>,
    /// Two curves.
    rates: Vec<[f64; 2]>,
}

impl Trail {
    /// Room for so many UAVs and slots.
    pub fn new(uavs: usize, steps: usize) -> Self {
        Self { uavs, places: Vec::with_capacity(uavs * (steps + 1)), rates: Vec::with_capacity(steps) }
    }

    /// Forgets everything but the present places.
    pub fn restart(&mut self, places: &[[f64; 3]]) {
        self.places.clear();
        self.places.extend_from_slice(places);
        self.rates.clear();
    }

    /// Adds a slot. Beyond the room there is none, and nothing is added.
    pub fn push(&mut self, places: &[[f64; 3]], rates: [f64; 2]) {
        if self.places.len() + self.uavs <= self.places.capacity() && self.rates.len() < self.rates.capacity()
        {
            self.places.extend_from_slice(places);
            self.rates.push(rates);
        }
    }
}

/// What the axes of the picture span.
pub struct Area {
    /// Lower left corner of the map, in m.
    pub low: [f64; 2],
    /// Side of the map, in m.
    pub side: f64,
    /// Lowest and highest altitude shown, in m.
    pub altitude: (f64, f64),
    /// Highest rate shown.
    pub rate: f64,
    /// Slots shown.
    pub steps: usize,
    /// Length of a slot, in s; the picture runs ten times as fast.
    pub slot: f64,
}

/// The map is one wide; a gap, then two panels of this width.
const PANEL: f64 = 0.6;
const GAP: f64 = 0.08;

/// Draws UAVs, users and the (UAV, user) `links`, and a jammer if there is one. In the panel above are the two curves of the
/// trail, the second accented, below it the altitudes.
pub fn draw(
    area: &Area,
    trail: &Trail,
    uavs: &[[f64; 3]],
    users: &[[f64; 2]],
    links: impl Iterator<Item = (usize, usize)>,
    jammer: Option<[f64; 2]>,
) -> Scene {
    let on_map = |x: f64, y: f64| [(x - area.low[0]) / area.side, (y - area.low[1]) / area.side];
    let above = |[x, y, _]: [f64; 3]| on_map(x, y);
    let paint = |i: usize| if i.is_multiple_of(2) { Paint::Body } else { Paint::Accent };
    let mut shapes = vec![frame(0.0, 0.0, 1.0, 1.0)];
    let mut served = vec![false; users.len()];
    for (i, user) in links {
        served[user] = true;
        shapes.push(line([above(uavs[i]), on_map(users[user][0], users[user][1])], Paint::Goal));
    }
    for (user, served) in users.iter().zip(served) {
        let paint = if served { Paint::Goal } else { Paint::Still };
        shapes.push(ball(on_map(user[0], user[1]), 0.008, paint));
    }
    let slots = trail.places.len() / trail.uavs.max(1);
    for (i, place) in uavs.iter().enumerate() {
        let way = || (0..slots).map(|t| trail.places[t * trail.uavs + i]);
        shapes.push(line(way().map(above), paint(i)));
        shapes.push(ball(above(*place), 0.016, paint(i)));
        let (low, high) = area.altitude;
        let height = |(t, [_, _, z]): (usize, [f64; 3])| {
            [
                1.0 + GAP + PANEL * t as f64 / area.steps as f64,
                0.45 * ((z - low) / (high - low)).clamp(0.0, 1.0),
            ]
        };
        shapes.push(line(way().enumerate().map(height), paint(i)));
    }
    if let Some([x, y]) = jammer {
        shapes.push(slab(on_map(x, y), [0.018; 2], std::f64::consts::FRAC_PI_4, Paint::Accent));
    }
    shapes.push(frame(1.0 + GAP, 0.0, PANEL, 0.45));
    shapes.push(frame(1.0 + GAP, 0.55, PANEL, 0.45));
    for (curve, paint) in [Paint::Body, Paint::Accent].into_iter().enumerate() {
        let at = |(t, rates): (usize, &[f64; 2])| {
            let part = (rates[curve] / area.rate).clamp(0.0, 1.0);
            [1.0 + GAP + PANEL * (t + 1) as f64 / area.steps as f64, 0.55 + 0.45 * part]
        };
        shapes.push(line(trail.rates.iter().enumerate().map(at), paint));
    }
    let (width, height) = (1.0 + GAP + PANEL, 1.0);
    Scene::side([width / 2.0, height / 2.0], width + 0.08, height + 0.08, area.slot / 10.0, shapes)
}

/// A rectangle of lines.
pub fn frame(x: f64, z: f64, width: f64, height: f64) -> Shape {
    let corners = [[x, z], [x + width, z], [x + width, z + height], [x, z + height], [x, z]];
    scene::line(corners, Paint::Still)
}
