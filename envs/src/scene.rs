//! What an environment looks like: shapes in world coordinates, for whoever has a canvas.
//!
//! x points right, y away from the viewer and z up; lengths are in metres, unless a task has no metres.

/// A point of the world.
pub type Point = [f64; 3];

/// What a shape stands for; its colour is the painter's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// What moves.
    Body,
    /// The part of it that the task is about.
    Accent,
    /// Where it should go.
    Goal,
    /// What stays where it is.
    Still,
}

/// One thing to draw.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// All points within `radius` of a segment; a ball where its ends meet.
    Capsule {
        /// One end.
        from: Point,
        /// The other end.
        to: Point,
        /// Radius.
        radius: f64,
        /// Colour.
        paint: Paint,
    },
    /// A filled polygon.
    Polygon {
        /// Corners in order.
        corners: Vec<Point>,
        /// Colour.
        paint: Paint,
    },
    /// A thin line.
    Line {
        /// Points in order.
        points: Vec<Point>,
        /// Colour.
        paint: Paint,
    },
    /// Words, upright.
    Text {
        /// Where their baseline begins, or ends if `rightmost`.
        at: Point,
        /// What they say.
        text: String,
        /// Size of the type.
        size: f64,
        /// Whether they end there.
        rightmost: bool,
        /// Colour.
        paint: Paint,
    },
}

/// From where the scene is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Camera {
    /// Along +y, without perspective.
    Side {
        /// (x, z) in the middle of the picture.
        centre: [f64; 2],
        /// Extent along x.
        width: f64,
        /// Extent along z.
        height: f64,
    },
    /// From a distance, in perspective.
    Orbit {
        /// Point in the middle of the picture.
        target: Point,
        /// Distance of the eye from it.
        distance: f64,
        /// Direction from the target to the eye around z, from +x towards +y, in rad.
        azimuth: f64,
        /// Height of the eye above the horizon of the target, in rad.
        elevation: f64,
    },
}

/// One moment of an environment.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// From where it is seen.
    pub camera: Camera,
    /// Whether there is ground at z = 0.
    pub ground: bool,
    /// What is to be seen, back to front where the camera does not tell.
    pub shapes: Vec<Shape>,
    /// Time that one step of the environment takes, in s.
    pub dt: f64,
    /// Whether it shows all that has happened so far: one picture of an episode is of its end then.
    pub remembers: bool,
}

/// One moment of an environment that draws itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green and blue of each pixel, row by row from the upper left corner, `[height, width, 3]`.
    pub rgb: Vec<u8>,
    /// Pictures that it wants shown a second.
    pub fps: u32,
}

impl Scene {
    /// A side view `width` × `height` around `centre`, without ground.
    pub fn side(centre: [f64; 2], width: f64, height: f64, dt: f64, shapes: Vec<Shape>) -> Self {
        Self { camera: Camera::Side { centre, width, height }, ground: false, shapes, dt, remembers: false }
    }
}

/// A capsule in the plane of a side view, its ends given as (x, z).
pub fn rod(from: [f64; 2], to: [f64; 2], radius: f64, paint: Paint) -> Shape {
    Shape::Capsule { from: [from[0], 0.0, from[1]], to: [to[0], 0.0, to[1]], radius, paint }
}

/// A ball.
pub fn ball(at: [f64; 2], radius: f64, paint: Paint) -> Shape {
    rod(at, at, radius, paint)
}

/// A line in the plane of a side view, its points given as (x, z).
pub fn line(points: impl IntoIterator<Item = [f64; 2]>, paint: Paint) -> Shape {
    Shape::Line { points: points.into_iter().map(|[x, z]| [x, 0.0, z]).collect(), paint }
}

/// Words in the plane of a side view that begin at (x, z).
pub fn words(at: [f64; 2], size: f64, text: impl Into<String>, paint: Paint) -> Shape {
    Shape::Text { at: [at[0], 0.0, at[1]], text: text.into(), size, rightmost: false, paint }
}

/// Words that end there.
pub fn words_up_to(at: [f64; 2], size: f64, text: impl Into<String>, paint: Paint) -> Shape {
    Shape::Text { at: [at[0], 0.0, at[1]], text: text.into(), size, rightmost: true, paint }
}

/// A rectangle in the plane of a side view, turned anticlockwise by `angle`, in rad.
pub fn slab(centre: [f64; 2], half: [f64; 2], angle: f64, paint: Paint) -> Shape {
    let (sin, cos) = angle.sin_cos();
    let corner = |[a, b]: [f64; 2]| {
        let (x, z) = (a * half[0], b * half[1]);
        [centre[0] + cos * x - sin * z, 0.0, centre[1] + sin * x + cos * z]
    };
    Shape::Polygon {
        corners: [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]].map(corner).to_vec(),
        paint,
    }
}
