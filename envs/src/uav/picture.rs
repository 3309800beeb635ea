//! What an episode with UAVs looks like: a map with users, ways flown so far and serving links; beside it the
//! rates and the altitudes over time.

use crate::scene::{Paint, Shape, ball, line, slab, words, words_up_to};
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
    /// What the two curves of the trail are, with the highest value shown and its unit.
    pub curves: [(&'static str, f64, &'static str); 2],
    /// Slots shown.
    pub steps: usize,
    /// Length of a slot, in s; the picture runs ten times as fast.
    pub slot: f64,
}

/// The map is one wide; a gap, then two panels of this size.
const PANEL: [f64; 2] = [0.66, 0.36];
const GAP: f64 = 0.12;
/// Lower edge of the upper panel, from which two lines of legend are left to its title.
const UPPER: f64 = 0.56;
/// Room around all of it for words.
const MARGIN: f64 = 0.09;
/// Size of the type.
const TYPE: f64 = 0.032;

/// Draws UAVs, users and the (UAV, user) `links`, and a jammer if there is one. In the panel above are the two
/// curves of the trail, the second accented, below it the altitudes.
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
    let slots = trail.places.len() / trail.uavs.max(1);
    for (i, place) in uavs.iter().enumerate() {
        let way = || (0..slots).map(|t| trail.places[t * trail.uavs + i]);
        shapes.push(line(way().map(above), paint(i)));
        shapes.push(ball(above(*place), 0.016, paint(i)));
        let (low, high) = area.altitude;
        let height = |(t, [_, _, z]): (usize, [f64; 3])| {
            let part = ((z - low) / (high - low)).clamp(0.0, 1.0);
            [1.0 + GAP + PANEL[0] * t as f64 / area.steps as f64, PANEL[1] * part]
        };
        shapes.push(line(way().enumerate().map(height), paint(i)));
    }
    // On top, since UAVs hover over users.
    for (user, served) in users.iter().zip(served) {
        let paint = if served { Paint::Goal } else { Paint::Still };
        shapes.push(ball(on_map(user[0], user[1]), 0.008, paint));
    }
    if let Some([x, y]) = jammer {
        shapes.push(slab(on_map(x, y), [0.018; 2], std::f64::consts::FRAC_PI_4, Paint::Accent));
    }
    shapes.push(frame(1.0 + GAP, 0.0, PANEL[0], PANEL[1]));
    shapes.push(frame(1.0 + GAP, UPPER, PANEL[0], PANEL[1]));
    for (curve, paint) in [Paint::Body, Paint::Accent].into_iter().enumerate() {
        let at = |(t, rates): (usize, &[f64; 2])| {
            let part = (rates[curve] / area.curves[curve].1).clamp(0.0, 1.0);
            [1.0 + GAP + PANEL[0] * (t + 1) as f64 / area.steps as f64, UPPER + PANEL[1] * part]
        };
        shapes.push(line(trail.rates.iter().enumerate().map(at), paint));
    }
    legend(area, jammer.is_some(), &mut shapes);
    let (width, height) = (1.0 + GAP + PANEL[0], 1.0);
    let (around, above) = (2.0 * MARGIN, MARGIN + 0.02);
    let (around, tall) = (width + around, height + 2.0 * above);
    let scene = Scene::side([width / 2.0, height / 2.0], around, tall, area.slot / 10.0, shapes);
    Scene { remembers: true, ..scene }
}

/// What the colours and the edges of the panels mean.
fn legend(area: &Area, jammer: bool, shapes: &mut Vec<Shape>) {
    let still = |at, text: String| words(at, TYPE, text, Paint::Still);
    shapes.push(still([0.0, 1.02], format!("map, {0:.0} m x {0:.0} m", area.side)));
    let below = -0.055;
    let mut x = 0.0;
    let mut key = |mark: Shape, text: &str, paint: Paint| {
        shapes.push(mark);
        shapes.push(words([x + 0.025, below], TYPE, text, paint));
        x += 0.05 + 0.52 * TYPE * text.len() as f64;
        x
    };
    let mark = |x: f64, paint: Paint, radius: f64| ball([x, below + 0.01], radius, paint);
    let next = key(mark(0.0, Paint::Body, 0.014), "UAV and its way", Paint::Still);
    let next = key(mark(next, Paint::Goal, 0.008), "user served", Paint::Still);
    let next = key(mark(next, Paint::Still, 0.008), "not served", Paint::Still);
    if jammer {
        let diamond = slab([next, below + 0.01], [0.014; 2], std::f64::consts::FRAC_PI_4, Paint::Accent);
        key(diamond, "jammer", Paint::Still);
    }
    let left = 1.0 + GAP;
    for (line, ((name, top, unit), paint)) in area.curves.iter().zip([Paint::Body, Paint::Accent]).enumerate()
    {
        let digits = if *top < 10.0 { 2 } else { 0 };
        let text = format!("{name}, 0 to {top:.digits$} {unit}");
        let z = UPPER + PANEL[1] + 0.02 + 0.045 * (1 - line) as f64;
        shapes.push(words([left, z], TYPE, text.trim_end(), paint));
    }
    let (low, high) = area.altitude;
    shapes.push(still([left, PANEL[1] + 0.02], format!("altitude, {low:.0} to {high:.0} m")));
    for z in [0.0, UPPER] {
        shapes.push(still([left, z - 0.045], "0".to_owned()));
        let end = format!("{:.0} s", area.steps as f64 * area.slot);
        shapes.push(words_up_to([left + PANEL[0], z - 0.045], TYPE, end, Paint::Still));
    }
}

/// A rectangle of lines.
pub fn frame(x: f64, z: f64, width: f64, height: f64) -> Shape {
    let corners = [[x, z], [x + width, z], [x + width, z + height], [x, z + height], [x, z]];
    scene::line(corners, Paint::Still)
}
