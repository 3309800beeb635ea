//! Where shapes touch, or nearly so.
//!
//! The pairs are few and fixed, so there is no broad phase but a test of bounding spheres. A contact has a
//! normal from the first shape to the second, and lies halfway between the two surfaces.

use super::constraint::Row;
use super::model::{Geom, Pair, Shape};
use super::profile::Profile;
use super::sim::Sim;
use super::spatial::{Vec3, add, add_scaled, cross, dot, normalize, scale, sub};

/// A point of contact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contact {
    /// Index of the pair in the model.
    pub pair: usize,
    /// Distance of the surfaces; negative where they overlap.
    pub dist: f64,
    /// Where.
    pub pos: Vec3,
    /// Unit normal, from the first shape to the second.
    pub normal: Vec3,
    /// Unit tangents.
    pub tangents: [Vec3; 2],
    /// Its first row in the constraints.
    pub row: usize,
}

impl Contact {
    /// The force on the second body, in world axes.
    pub(super) fn force<const NV: usize>(&self, rows: &[Row<NV>], friction: Option<f64>) -> Vec3 {
        match friction {
            None => scale(self.normal, rows[self.row].force),
            Some(mu) => {
                // The edges of the friction pyramid are n ± μt.
                let f = [0, 1, 2, 3].map(|k| rows[self.row + k].force);
                let normal = scale(self.normal, f[0] + f[1] + f[2] + f[3]);
                let along = add_scaled(normal, self.tangents[0], mu * (f[0] - f[1]));
                add_scaled(along, self.tangents[1], mu * (f[2] - f[3]))
            }
        }
    }
}

/// The test that most pairs fail: how far two shapes may be apart for their margins to meet. It keeps what the test of
/// all pairs reads in a few kilobytes.
pub(super) struct Nearness {
    geoms: (u16, u16),
    /// Whether the first shape is a plane, and the distance one along its normal.
    plane: bool,
    /// Largest distance of the centres along the normal, or its square.
    most: f64,
}

impl Nearness {
    pub(super) fn of(pair: &Pair, geoms: &[Geom], profile: Profile) -> Self {
        let plane = geoms[pair.geoms.0].shape == Shape::Plane;
        let margin = if profile.sums_margins() { pair.margin_sum } else { pair.margin_max };
        let reach = pair.reach + margin;
        let most = if plane { reach } else { reach * reach };
        Self { geoms: (pair.geoms.0 as u16, pair.geoms.1 as u16), plane, most }
    }
}

/// Points that are nearer have no direction between them.
const CONCENTRIC: f64 = 1e-15;

/// A touching pair of points: the distance of the surfaces, the place, the normal.
#[derive(Clone, Copy)]
struct Touch {
    dist: f64,
    pos: Vec3,
    normal: Vec3,
}

/// Tangents to a normal; the first as near as possible to `hint`.
fn tangents(normal: Vec3, hint: Vec3) -> [Vec3; 2] {
    let first = normalize(add_scaled(hint, normal, -dot(normal, hint))).0;
    [first, cross(normal, first)]
}

/// The axis of the world from which the tangents of a contact without a direction of its own start.
fn any_hint(normal: Vec3) -> Vec3 {
    if normal[1].abs() < 0.5 { [0.0, 1.0, 0.0] } else { [0.0, 0.0, 1.0] }
}

/// A plane through `origin` and a ball.
#[inline(always)]
fn plane_sphere(origin: Vec3, normal: Vec3, center: Vec3, radius: f64, margin: f64) -> Option<Touch> {
    let dist = dot(sub(center, origin), normal) - radius;
    (dist < margin).then(|| Touch { dist, pos: add_scaled(center, normal, -0.5 * dist - radius), normal })
}

/// Two balls. Where they are concentric the normal is square to both `axes` (of the shapes that they are part of).
#[inline(always)]
fn sphere_sphere(
    a: Vec3,
    radius_a: f64,
    b: Vec3,
    radius_b: f64,
    margin: f64,
    axes: [Vec3; 2],
) -> Option<Touch> {
    let between = sub(b, a);
    let reach = margin + radius_a + radius_b;
    if dot(between, between) > reach * reach {
        return None;
    }
    let (mut normal, length) = normalize(between);
    if length < CONCENTRIC {
        normal = normalize(cross(axes[0], axes[1])).0;
    }
    let dist = length - radius_a - radius_b;
    (dist < margin).then(|| Touch { dist, pos: add_scaled(a, normal, radius_a + 0.5 * dist), normal })
}

/// The point of a segment (centre, half length times unit axis) nearest to `p`.
#[inline(always)]
fn on_segment(center: Vec3, axis: Vec3, half: f64, p: Vec3) -> Vec3 {
    let x = dot(axis, sub(p, center)).clamp(-half, half);
    add_scaled(center, axis, x)
}

/// A place in the world.
#[derive(Clone, Copy)]
struct Pose {
    pos: Vec3,
    axis: Vec3,
}

/// Two capsules: one touch, or two where they are parallel.
fn capsule_capsule(a: Pose, ga: &Geom, b: Pose, gb: &Geom, margin: f64, found: &mut dyn FnMut(Touch)) {
    let (u, v) = (scale(a.axis, ga.half), scale(b.axis, gb.half));
    let between = sub(a.pos, b.pos);
    // The distance of the points pos + x·axis is stationary where
    //   uu x1 − uv x2 = −u·between,   −uv x1 + vv x2 = v·between.
    let (uu, uv, vv) = (dot(u, u), -dot(u, v), dot(v, v));
    let (ub, vb) = (-dot(u, between), dot(v, between));
    let det = uu * vv - uv * uv;
    let mut touch = |x1: f64, x2: f64| -> bool {
        let (p, q) = (add_scaled(a.pos, u, x1), add_scaled(b.pos, v, x2));
        let touch = sphere_sphere(p, ga.radius, q, gb.radius, margin, [a.axis, b.axis]);
        touch.map(&mut *found).is_some()
    };
    if det.abs() >= 1e-15 {
        let mut x1 = (vv * ub - uv * vb) / det;
        let mut x2 = (uu * vb - uv * ub) / det;
        if x1 > 1.0 {
            x1 = 1.0;
            x2 = (vb - uv) / vv;
        } else if x1 < -1.0 {
            x1 = -1.0;
            x2 = (vb + uv) / vv;
        }
        if x2 > 1.0 {
            x2 = 1.0;
            x1 = ((ub - uv) / uu).clamp(-1.0, 1.0);
        } else if x2 < -1.0 {
            x2 = -1.0;
            x1 = ((ub + uv) / uu).clamp(-1.0, 1.0);
        }
        touch(x1, x2);
        return;
    }
    // Parallel: the ends of the first, then those of the second, against the other's segment.
    let mut count = 0;
    for x1 in [1.0, -1.0] {
        let x2 = ((vb - uv * x1) / vv).clamp(-1.0, 1.0);
        count += usize::from(touch(x1, x2));
    }
    for x2 in [1.0, -1.0] {
        if count == 2 {
            return;
        }
        let x1 = ((ub - uv * x2) / uu).clamp(-1.0, 1.0);
        count += usize::from(touch(x1, x2));
    }
}

/// A capsule and an upright cylinder, by the point of the cylinder nearest to the capsule's segment.
///
/// MuJoCo uses its general convex collider here, accurate to 1e-6 … 1e-5; this is the distance that it aims at.
fn capsule_cylinder(a: Pose, ga: &Geom, b: Pose, gb: &Geom, margin: f64, found: &mut dyn FnMut(Touch)) {
    let nearest = |t: f64| {
        let p = add_scaled(a.pos, a.axis, t);
        let d = sub(p, b.pos);
        let height = dot(d, b.axis);
        let radial = add_scaled(d, b.axis, -height);
        let (out, r) = normalize(radial);
        (p, height, out, r)
    };
    // Signed distance of a point of the segment to the cylinder: convex in t, so a golden-section search finds
    // its minimum.
    let distance = |t: f64| {
        let (_, height, _, r) = nearest(t);
        let (side, end) = (r - gb.radius, height.abs() - gb.half);
        if side <= 0.0 && end <= 0.0 { side.max(end) } else { side.max(0.0).hypot(end.max(0.0)) }
    };
    let ratio = 0.5 * (5f64.sqrt() - 1.0);
    let (mut low, mut high) = (-ga.half, ga.half);
    let (mut c, mut d) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut fc, mut fd) = (distance(c), distance(d));
    for _ in 0..60 {
        if fc < fd {
            (high, d, fd) = (d, c, fc);
            c = high - ratio * (high - low);
            fc = distance(c);
        } else {
            (low, c, fc) = (c, d, fd);
            d = low + ratio * (high - low);
            fd = distance(d);
        }
    }
    let candidates = [-ga.half, 0.5 * (low + high), ga.half];
    let best = candidates.into_iter().min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or(0.0);
    let dist = distance(best) - ga.radius;
    if dist >= margin {
        return;
    }
    let (p, height, out, r) = nearest(best);
    let (side, end) = (r - gb.radius, height.abs() - gb.half);
    let up = scale(b.axis, height.signum());
    let outward = if side <= 0.0 && end <= 0.0 {
        if side > end { out } else { up }
    } else {
        normalize(add(scale(out, side.max(0.0)), scale(up, end.max(0.0)))).0
    };
    let normal = scale(outward, -1.0);
    found(Touch { dist, pos: add_scaled(p, normal, ga.radius + 0.5 * dist), normal });
}

impl<const NQ: usize, const NV: usize, const NB: usize> Sim<NQ, NV, NB> {
    /// Lists the contacts of all pairs.
    pub(super) fn collide(&mut self) {
        self.contacts.clear();
        for index in 0..self.nearness.len() {
            let near = &self.nearness[index];
            let (g1, g2) = (usize::from(near.geoms.0), usize::from(near.geoms.1));
            let between = sub(self.geom_xpos[g2], self.geom_xpos[g1]);
            let apart = if near.plane { dot(between, self.geom_xaxis[g1]) } else { dot(between, between) };
            if apart <= near.most {
                self.touch(index);
            }
        }
    }

    /// Narrow phase of one pair.
    fn touch(&mut self, index: usize) {
        let pair = &self.model.pairs[index];
        let margin = if self.profile.sums_margins() { pair.margin_sum } else { pair.margin_max };
        let pose = |geom: usize| Pose { pos: self.geom_xpos[geom], axis: self.geom_xaxis[geom] };
        let (a, b) = (pose(pair.geoms.0), pose(pair.geoms.1));
        let (ga, gb) = (&self.model.geoms[pair.geoms.0], &self.model.geoms[pair.geoms.1]);
        let contacts = &mut self.contacts;
        let mut found = |touch: Touch, hint: Option<Vec3>| {
            let Touch { dist, pos, normal } = touch;
            let tangents = tangents(normal, hint.unwrap_or_else(|| any_hint(normal)));
            contacts.push(Contact { pair: index, dist, pos, normal, tangents, row: 0 });
        };
        match (ga.shape, gb.shape) {
            (Shape::Plane, Shape::Sphere) => {
                if let Some(touch) = plane_sphere(a.pos, a.axis, b.pos, gb.radius, margin) {
                    found(touch, None);
                }
            }
            (Shape::Plane, Shape::Capsule) => {
                for end in [gb.half, -gb.half] {
                    let center = add_scaled(b.pos, b.axis, end);
                    if let Some(touch) = plane_sphere(a.pos, a.axis, center, gb.radius, margin) {
                        found(touch, Some(b.axis));
                    }
                }
            }
            (Shape::Sphere, Shape::Sphere) => {
                if let Some(touch) =
                    sphere_sphere(a.pos, ga.radius, b.pos, gb.radius, margin, [a.axis, b.axis])
                {
                    found(touch, None);
                }
            }
            (Shape::Sphere, Shape::Capsule) => {
                let point = on_segment(b.pos, b.axis, gb.half, a.pos);
                if let Some(touch) =
                    sphere_sphere(a.pos, ga.radius, point, gb.radius, margin, [a.axis, b.axis])
                {
                    found(touch, None);
                }
            }
            (Shape::Capsule, Shape::Capsule) => {
                capsule_capsule(a, ga, b, gb, margin, &mut |touch| found(touch, None));
            }
            (Shape::Capsule, Shape::Cylinder) => {
                capsule_cylinder(a, ga, b, gb, margin, &mut |touch| found(touch, None));
            }
            // No model has another pair.
            _ => {}
        }
    }
}
