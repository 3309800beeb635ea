//! Small fixed-size linear algebra: vectors, rotations, quaternions, spatial (6-D) vectors and inertias.
//!
//! Spatial vectors are rotational part first; motions (ω, v) and forces (τ, f) are taken about one point, the
//! centre of mass of the kinematic tree, in world axes. See R. Featherstone, *Rigid Body Dynamics Algorithms*, 2008.

/// Vector of three.
pub type Vec3 = [f64; 3];
/// Matrix of three by three, row by row.
pub type Mat3 = [f64; 9];
/// Motion (ω, v) or force (τ, f).
pub type Spatial = [f64; 6];
/// Inertia about a point: the moments xx, yy, zz, xy, xz, yz, mass times offset of the centre of mass, mass.
pub type Inertia = [f64; 10];

/// The unit matrix.
pub const IDENTITY: Mat3 = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];

/// a + b.
#[inline(always)]
pub fn add(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// a − b.
#[inline(always)]
pub fn sub(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// s a.
#[inline(always)]
pub fn scale(a: Vec3, s: f64) -> Vec3 {
    [a[0] * s, a[1] * s, a[2] * s]
}

/// a + s b.
#[inline(always)]
pub fn add_scaled(a: Vec3, b: Vec3, s: f64) -> Vec3 {
    [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]]
}

/// Scalar product.
#[inline(always)]
pub fn dot(a: Vec3, b: Vec3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Vector product.
#[inline(always)]
pub fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Length.
#[inline(always)]
pub fn norm(a: Vec3) -> f64 {
    dot(a, a).sqrt()
}

/// Unit vector along `a`, and the length of `a`; (1, 0, 0) where that is next to nothing.
#[inline(always)]
pub fn normalize(a: Vec3) -> (Vec3, f64) {
    let length = norm(a);
    if length < 1e-15 { ([1.0, 0.0, 0.0], length) } else { (scale(a, 1.0 / length), length) }
}

/// m v.
#[inline(always)]
pub fn rotate(m: &Mat3, v: Vec3) -> Vec3 {
    [
        m[0] * v[0] + m[1] * v[1] + m[2] * v[2],
        m[3] * v[0] + m[4] * v[1] + m[5] * v[2],
        m[6] * v[0] + m[7] * v[1] + m[8] * v[2],
    ]
}

/// mᵀ v.
#[inline(always)]
pub fn rotate_back(m: &Mat3, v: Vec3) -> Vec3 {
    [
        m[0] * v[0] + m[3] * v[1] + m[6] * v[2],
        m[1] * v[0] + m[4] * v[1] + m[7] * v[2],
        m[2] * v[0] + m[5] * v[1] + m[8] * v[2],
    ]
}

/// a b.
#[inline(always)]
pub fn multiply(a: &Mat3, b: &Mat3) -> Mat3 {
    let mut c = [0.0; 9];
    for i in 0..3 {
        for j in 0..3 {
            c[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
        }
    }
    c
}

/// m turned by `angle` about the unit axis `axis` of its own frame: m times the rotation.
#[inline(always)]
pub fn turn(m: &Mat3, axis: Vec3, angle: f64) -> Mat3 {
    let (sin, cos) = angle.sin_cos();
    let mut r = *m;
    // About an axis of the frame only two columns change.
    let mut mix = |i: usize, j: usize, sin: f64| {
        for row in 0..3 {
            let (a, b) = (m[3 * row + i], m[3 * row + j]);
            r[3 * row + i] = cos * a + sin * b;
            r[3 * row + j] = cos * b - sin * a;
        }
    };
    match axis {
        [0.0, y, 0.0] => mix(2, 0, y * sin),
        [0.0, 0.0, z] => mix(0, 1, z * sin),
        [x, 0.0, 0.0] => mix(1, 2, x * sin),
        _ => r = multiply(m, &rotation(axis, sin, cos)),
    }
    r
}

/// Rodrigues' rotation about a unit axis.
fn rotation([x, y, z]: Vec3, sin: f64, cos: f64) -> Mat3 {
    let t = 1.0 - cos;
    [
        cos + t * x * x,
        t * x * y - sin * z,
        t * x * z + sin * y,
        t * x * y + sin * z,
        cos + t * y * y,
        t * y * z - sin * x,
        t * x * z - sin * y,
        t * y * z + sin * x,
        cos + t * z * z,
    ]
}

/// The quaternion (w, x, y, z) scaled to unit length; (1, 0, 0, 0) where there is no direction.
#[inline(always)]
pub fn unit_quat(q: [f64; 4]) -> [f64; 4] {
    let length = (q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]).sqrt();
    if length < 1e-15 { [1.0, 0.0, 0.0, 0.0] } else { q.map(|x| x / length) }
}

/// Rotation matrix of a unit quaternion.
#[inline(always)]
pub fn quat_to_mat([w, x, y, z]: [f64; 4]) -> Mat3 {
    [
        w * w + x * x - y * y - z * z,
        2.0 * (x * y - w * z),
        2.0 * (x * z + w * y),
        2.0 * (x * y + w * z),
        w * w - x * x + y * y - z * z,
        2.0 * (y * z - w * x),
        2.0 * (x * z - w * y),
        2.0 * (y * z + w * x),
        w * w - x * x - y * y + z * z,
    ]
}

/// `q`, normalised, after turning for `time` with the body-frame rate `omega`.
pub fn turn_quat(q: [f64; 4], omega: Vec3, time: f64) -> [f64; 4] {
    let q = unit_quat(q);
    let (axis, rate) = normalize(omega);
    let (sin, cos) = (0.5 * (time * rate)).sin_cos();
    let [w, [x, y, z]] = [[cos; 3], scale(axis, sin)];
    let w = w[0];
    [
        q[0] * w - q[1] * x - q[2] * y - q[3] * z,
        q[0] * x + q[1] * w + q[2] * z - q[3] * y,
        q[0] * y - q[1] * z + q[2] * w + q[3] * x,
        q[0] * z + q[1] * y - q[2] * x + q[3] * w,
    ]
}

/// Scalar product of a motion and a force.
#[inline(always)]
pub fn dot6(a: &Spatial, b: &Spatial) -> f64 {
    // Two sums side by side.
    let (mut even, mut odd) = (a[0] * b[0], a[1] * b[1]);
    for i in [2, 4] {
        even += a[i] * b[i];
        odd += a[i + 1] * b[i + 1];
    }
    even + odd
}

/// a + s b, in place.
#[inline(always)]
pub fn add_scaled6(a: &mut Spatial, b: &Spatial, s: f64) {
    for i in 0..6 {
        a[i] += s * b[i];
    }
}

/// Vector product of motions, `v` × `m`.
#[inline(always)]
pub fn cross_motion(v: &Spatial, m: &Spatial) -> Spatial {
    let (w, u) = ([v[0], v[1], v[2]], [v[3], v[4], v[5]]);
    let (mw, mu) = ([m[0], m[1], m[2]], [m[3], m[4], m[5]]);
    let (a, b) = (cross(w, mw), add(cross(w, mu), cross(u, mw)));
    [a[0], a[1], a[2], b[0], b[1], b[2]]
}

/// Vector product of a motion and a force, `v` ×* `f`.
#[inline(always)]
pub fn cross_force(v: &Spatial, f: &Spatial) -> Spatial {
    let (w, u) = ([v[0], v[1], v[2]], [v[3], v[4], v[5]]);
    let (t, l) = ([f[0], f[1], f[2]], [f[3], f[4], f[5]]);
    let (a, b) = (add(cross(w, t), cross(u, l)), cross(w, l));
    [a[0], a[1], a[2], b[0], b[1], b[2]]
}

/// Momentum of the inertia `i` moving with `v`.
#[inline(always)]
pub fn momentum(i: &Inertia, v: &Spatial) -> Spatial {
    [
        i[0] * v[0] + i[3] * v[1] + i[4] * v[2] - i[8] * v[4] + i[7] * v[5],
        i[3] * v[0] + i[1] * v[1] + i[5] * v[2] + i[8] * v[3] - i[6] * v[5],
        i[4] * v[0] + i[5] * v[1] + i[2] * v[2] - i[7] * v[3] + i[6] * v[4],
        i[8] * v[1] - i[7] * v[2] + i[9] * v[3],
        i[6] * v[2] - i[8] * v[0] + i[9] * v[4],
        i[7] * v[0] - i[6] * v[1] + i[9] * v[5],
    ]
}

/// Inertia about a point from which the centre of mass is `offset` away: `moments` (xx, yy, zz, xy, xz, yz)
/// about the centre in a frame turned by `rot`.
#[inline(always)]
pub fn inertia_about(rot: &Mat3, moments: &[f64; 6], mass: f64, offset: Vec3) -> Inertia {
    let [xx, yy, zz, xy, xz, yz] = *moments;
    let full = [xx, xy, xz, xy, yy, yz, xz, yz, zz];
    let half = multiply(rot, &full);
    let entry = |i: usize, j: usize| {
        half[3 * i] * rot[3 * j] + half[3 * i + 1] * rot[3 * j + 1] + half[3 * i + 2] * rot[3 * j + 2]
    };
    let [x, y, z] = offset;
    [
        entry(0, 0) + mass * (y * y + z * z),
        entry(1, 1) + mass * (x * x + z * z),
        entry(2, 2) + mass * (x * x + y * y),
        entry(0, 1) - mass * x * y,
        entry(0, 2) - mass * x * z,
        entry(1, 2) - mass * y * z,
        mass * x,
        mass * y,
        mass * z,
        mass,
    ]
}
