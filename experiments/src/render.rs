//! Moving pictures of a trained policy: a GIF of an episode, or one of its moments as PNG.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};
use resvg::tiny_skia::{
    Color, FillRule, IntSize, LineCap, Paint as Ink, PathBuilder, Pixmap, Stroke, Transform,
};
use resvg::usvg::{Options, Tree};
use steadfast_agents::{Acting, Agent};
use steadfast_envs::scene::{Camera, Paint, Point, Scene, Shape};
use steadfast_envs::{Env, Picture};

use crate::record::write_atomic;
use crate::train::play;

/// Pixels of the longer side of a moving picture.
const SIZE: f64 = 480.0;
/// How many times larger a single picture is, for print.
const ENLARGED: f64 = 3.0;
/// Pictures a second that a GIF shows at most: viewers slow down what is faster.
const MOST_FPS: f64 = 33.4;
/// Vertical angle of view of a perspective picture, in rad.
const ANGLE_OF_VIEW: f64 = 0.7;

/// The file types that an episode can be drawn to.
const TYPES: &str = ".gif (an episode) or .png (one moment)";

/// Checks that `path` names a picture, before anything is played.
///
/// # Errors
/// For another extension.
pub fn check(path: &Path) -> Result<()> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("gif" | "png") => Ok(()),
        _ => bail!("{}: the name of a picture must end in {TYPES}", path.display()),
    }
}

/// Plays the first of the episodes that an evaluation plays, and draws it to `path`: all of it as a GIF, or one moment
/// as a PNG: its middle, or its end where that shows all of it.
///
/// # Errors
/// For a task without a picture, another extension, and a file that cannot be written.
pub fn episode(
    agent: &dyn Agent,
    how: Acting,
    make: &dyn Fn() -> Box<dyn Env>,
    seed: u64,
    path: &Path,
) -> Result<()> {
    check(path)?;
    // Every moment of the episode, its start and its end included.
    let mut moments = Vec::new();
    play(agent, how, make, seed, 1, 1000, |_, env, _| {
        moments.push(Moment::of(env)?);
        Ok(())
    })?;
    let bytes = if path.extension().is_some_and(|e| e == "gif") {
        gif(&moments)?
    } else {
        still(&moments).frame(ENLARGED)?.encode_png().context("cannot encode the picture")?
    };
    write_atomic(path, &bytes)
}

/// The moment that stands for an episode: its middle, or its end where that shows all of it.
fn still(moments: &[Moment]) -> &Moment {
    let last = &moments[moments.len() - 1];
    if matches!(last, Moment::Scene(scene) if scene.remembers) { last } else { &moments[moments.len() / 2] }
}

/// One moment, however the task shows it.
enum Moment {
    Scene(Scene),
    Picture(Picture),
}

impl Moment {
    /// The present state of `env`.
    ///
    /// # Errors
    /// For a task that has no picture, or cannot draw it.
    fn of(env: &mut dyn Env) -> Result<Self> {
        if let Some(scene) = env.scene() {
            return Ok(Self::Scene(scene));
        }
        match env.picture() {
            Some(picture) => Ok(Self::Picture(picture)),
            None if let Some(why) = env.fault() => bail!("{why}"),
            None => bail!("'{}' has no picture; `eval` without --render scores it", env.spec().id),
        }
    }

    /// Seconds until the next.
    fn dt(&self) -> f64 {
        match self {
            Self::Scene(scene) => scene.dt,
            Self::Picture(picture) => 1.0 / f64::from(picture.fps),
        }
    }

    /// The pixels; those of a scene, `enlarged` times.
    fn frame(&self, enlarged: f64) -> Result<Pixmap> {
        match self {
            Self::Scene(scene) => frame(scene, enlarged),
            Self::Picture(Picture { width, height, rgb, .. }) => {
                let rgba =
                    rgb.as_chunks::<3>().0.iter().flat_map(|[r, g, b]| [*r, *g, *b, u8::MAX]).collect();
                let size = IntSize::from_wh(*width as u32, *height as u32);
                size.and_then(|size| Pixmap::from_vec(rgba, size))
                    .ok_or_else(|| anyhow!("the task drew a picture of {width} x {height} pixels"))
            }
        }
    }
}

fn gif(moments: &[Moment]) -> Result<Vec<u8>> {
    // At the speed of the world: every n-th moment, shown for n steps, in hundredths of a second.
    let dt = moments[0].dt();
    let every = (1.0 / (MOST_FPS * dt)).ceil().max(1.0);
    let delay = (100.0 * every * dt).round().clamp(1.0, 1000.0) as u16;
    let last = moments.len() - 1;
    let shown = (0..moments.len()).filter(|i| i % every as usize == 0 || *i == last);
    let first = moments[0].frame(1.0)?;
    let (width, height) = (first.width() as u16, first.height() as u16);
    let mut encoder = gif::Encoder::new(Vec::new(), width, height, &[])?;
    encoder.set_repeat(gif::Repeat::Infinite)?;
    for i in shown {
        let mut pixels = moments[i].frame(1.0)?.take();
        let mut frame = gif::Frame::from_rgba_speed(width, height, &mut pixels, 10);
        // The end stays for a while, before it all begins again.
        frame.delay = if i == last { delay.max(100) } else { delay };
        encoder.write_frame(&frame)?;
    }
    Ok(encoder.into_inner()?)
}

/// One moment as pixels, 480 on the longer side, times `enlarged`.
///
/// # Errors
/// For a camera that sees nothing.
pub fn frame(scene: &Scene, enlarged: f64) -> Result<Pixmap> {
    let view = View::new(&scene.camera, enlarged);
    let mut canvas = Pixmap::new(view.width as u32, view.height as u32)
        .ok_or_else(|| anyhow!("the camera of the task sees nothing"))?;
    canvas.fill(Color::WHITE);
    if scene.ground {
        ground(&view, &scene.camera, &mut canvas);
    }
    // Far things first; a side view draws in the order given.
    let mut shapes: Vec<&Shape> = scene.shapes.iter().collect();
    shapes.sort_by(|a, b| view.depth_of(b).total_cmp(&view.depth_of(a)));
    for shape in shapes {
        draw(shape, &view, &mut canvas);
    }
    write(&scene.shapes, &view, &mut canvas)?;
    Ok(canvas)
}

/// How points of the world come to points of the picture.
struct View {
    width: f64,
    height: f64,
    /// Unit vectors to the right, up and away from the eye.
    axes: [Point; 3],
    eye: Point,
    /// Pixels a metre: everywhere, or at distance 1 in perspective.
    scale: f64,
    perspective: bool,
    /// Pixels of a line for one of a small picture.
    pen: f32,
}

fn dot(a: Point, b: Point) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

impl View {
    fn new(camera: &Camera, enlarged: f64) -> Self {
        let (size, pen) = (SIZE * enlarged, enlarged as f32);
        match *camera {
            Camera::Side { centre: [x, z], width, height } => {
                let scale = size / width.max(height);
                let axes = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]];
                let (width, height) = ((width * scale).round(), (height * scale).round());
                Self { width, height, axes, eye: [x, 0.0, z], scale, perspective: false, pen }
            }
            Camera::Orbit { target, distance, azimuth, elevation } => {
                let ((sa, ca), (se, ce)) = (azimuth.sin_cos(), elevation.sin_cos());
                let axes = [[-sa, ca, 0.0], [-se * ca, -se * sa, ce], [-ce * ca, -ce * sa, -se]];
                let eye = std::array::from_fn(|i| target[i] - distance * axes[2][i]);
                let (width, height) = (size, (0.75 * size).round());
                let scale = height / 2.0 / (ANGLE_OF_VIEW / 2.0).tan();
                Self { width, height, axes, eye, scale, perspective: true, pen }
            }
        }
    }

    /// Distance from the eye along the line of sight, in m.
    fn depth(&self, p: Point) -> f64 {
        dot(std::array::from_fn(|i| p[i] - self.eye[i]), self.axes[2])
    }

    fn depth_of(&self, shape: &Shape) -> f64 {
        if !self.perspective {
            return 0.0;
        }
        let points: &[Point] = match shape {
            Shape::Capsule { from, to, .. } => &[*from, *to],
            Shape::Polygon { corners, .. } => corners,
            Shape::Line { points, .. } => points,
            Shape::Text { at, .. } => &[*at],
        };
        points.iter().map(|p| self.depth(*p)).sum::<f64>() / points.len().max(1) as f64
    }

    /// Pixels a metre at `p`.
    fn scale_at(&self, p: Point) -> f64 {
        if self.perspective { self.scale / self.depth(p).max(0.05) } else { self.scale }
    }

    /// Place in the picture, in pixels from its upper left corner.
    fn project(&self, p: Point) -> (f32, f32) {
        let relative = std::array::from_fn(|i| p[i] - self.eye[i]);
        let scale = self.scale_at(p);
        let x = self.width / 2.0 + scale * dot(relative, self.axes[0]);
        let y = self.height / 2.0 - scale * dot(relative, self.axes[1]);
        (x as f32, y as f32)
    }
}

/// Colours that people with any colour vision tell apart (Okabe and Ito), on white.
fn rgb(paint: Paint) -> (u8, u8, u8) {
    match paint {
        Paint::Body => (0x00, 0x72, 0xb2),
        Paint::Accent => (0xd5, 0x5e, 0x00),
        Paint::Goal => (0x00, 0x9e, 0x73),
        Paint::Still => (0x50, 0x50, 0x50),
    }
}

fn ink(paint: Paint) -> Ink<'static> {
    let (r, g, b) = rgb(paint);
    solid(r, g, b)
}

fn solid(r: u8, g: u8, b: u8) -> Ink<'static> {
    let mut ink = Ink::default();
    ink.set_color_rgba8(r, g, b, 0xff);
    ink.anti_alias = true;
    ink
}

fn draw(shape: &Shape, view: &View, canvas: &mut Pixmap) {
    match shape {
        Shape::Capsule { from, to, radius, paint } => {
            let middle = std::array::from_fn(|i| (from[i] + to[i]) / 2.0);
            let width = (2.0 * radius * view.scale_at(middle)) as f32;
            // A light edge keeps limbs apart that lie over one another.
            thick(*from, *to, width + 2.0 * view.pen, &solid(0xff, 0xff, 0xff), view, canvas);
            thick(*from, *to, width, &ink(*paint), view, canvas);
        }
        Shape::Polygon { corners, paint } => {
            let mut builder = PathBuilder::new();
            for (i, corner) in corners.iter().enumerate() {
                let (x, y) = view.project(*corner);
                if i == 0 { builder.move_to(x, y) } else { builder.line_to(x, y) }
            }
            builder.close();
            if let Some(path) = builder.finish() {
                canvas.fill_path(&path, &ink(*paint), FillRule::Winding, Transform::identity(), None);
            }
        }
        Shape::Line { points, paint } => stroke(points, 2.0 * view.pen, &ink(*paint), view, canvas),
        Shape::Text { .. } => {} // all at once, on top
    }
}

/// Writes the words of `shapes`.
fn write(shapes: &[Shape], view: &View, canvas: &mut Pixmap) -> Result<()> {
    let mut texts = String::new();
    for shape in shapes {
        let Shape::Text { at, text, size, rightmost, paint } = shape else { continue };
        let ((x, y), size) = (view.project(*at), size * view.scale_at(*at));
        let anchor = if *rightmost { "end" } else { "start" };
        let (r, g, b) = rgb(*paint);
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        texts += &format!(
            r##"<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="rgb({r},{g},{b})">{text}</text>"##
        );
    }
    if texts.is_empty() {
        return Ok(());
    }
    let (width, height) = (canvas.width(), canvas.height());
    let svg =
        format!(r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{texts}</svg>"#);
    let tree = Tree::from_str(&svg, type_setting()).context("the words of the picture are not valid SVG")?;
    resvg::render(&tree, Transform::identity(), &mut canvas.as_mut());
    Ok(())
}

/// The bundled font, read once.
fn type_setting() -> &'static Options<'static> {
    static OPTIONS: OnceLock<Options> = OnceLock::new();
    OPTIONS.get_or_init(|| {
        let mut options = Options { font_family: "Noto Sans".to_owned(), ..Options::default() };
        options.fontdb_mut().load_font_data(notosans::REGULAR_TTF.to_vec());
        options
    })
}

/// A line with round ends; a disc where it has no length, which no pen would draw.
fn thick(from: Point, to: Point, width: f32, ink: &Ink, view: &View, canvas: &mut Pixmap) {
    let ((x0, y0), (x1, y1)) = (view.project(from), view.project(to));
    if (x1 - x0).hypot(y1 - y0) > 0.1 {
        stroke(&[from, to], width, ink, view, canvas);
    } else if let Some(disc) = PathBuilder::from_circle(x0, y0, width / 2.0) {
        canvas.fill_path(&disc, ink, FillRule::Winding, Transform::identity(), None);
    }
}

fn stroke(points: &[Point], width: f32, ink: &Ink, view: &View, canvas: &mut Pixmap) {
    let mut builder = PathBuilder::new();
    for (i, point) in points.iter().enumerate() {
        let (x, y) = view.project(*point);
        if i == 0 { builder.move_to(x, y) } else { builder.line_to(x, y) }
    }
    if let Some(path) = builder.finish() {
        let stroke = Stroke { width, line_cap: LineCap::Round, ..Stroke::default() };
        canvas.stroke_path(&path, ink, &stroke, Transform::identity(), None);
    }
}

/// The plane z = 0: in a side view a line with a mark every metre, in perspective a grid of metres.
fn ground(view: &View, camera: &Camera, canvas: &mut Pixmap) {
    let grey = solid(0xc8, 0xc8, 0xc8);
    match *camera {
        Camera::Side { centre: [x, _], width, .. } => {
            let (left, right) = (x - width, x + width);
            stroke(&[[left, 0.0, 0.0], [right, 0.0, 0.0]], 2.0 * view.pen, &ink(Paint::Still), view, canvas);
            for metre in left.ceil() as i64..=right.floor() as i64 {
                let x = metre as f64;
                let depth = if metre % 5 == 0 { 0.12 } else { 0.06 };
                stroke(&[[x, 0.0, 0.0], [x, 0.0, -depth]], 2.0 * view.pen, &ink(Paint::Still), view, canvas);
            }
        }
        Camera::Orbit { target, distance, .. } => {
            // Cells by themselves, so that none reaches behind the eye.
            let reach = (2.0 * distance).ceil().min(60.0) as i64;
            let (x0, y0) = (target[0].round() as i64, target[1].round() as i64);
            let seen = |p: Point| view.depth(p) > 0.2;
            for i in -reach..=reach {
                for j in -reach..=reach {
                    let at = |di: i64, dj: i64| [(x0 + i + di) as f64, (y0 + j + dj) as f64, 0.0];
                    for other in [at(1, 0), at(0, 1)] {
                        if seen(at(0, 0)) && seen(other) {
                            stroke(&[at(0, 0), other], view.pen, &grey, view, canvas);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use steadfast_envs::scene::{ball, slab, words, words_up_to};
    use steadfast_envs::{Purpose, rng};

    fn colour(canvas: &Pixmap, x: u32, y: u32) -> [u8; 3] {
        let pixel = canvas.pixel(x, y).unwrap();
        [pixel.red(), pixel.green(), pixel.blue()]
    }

    const BLUE: [u8; 3] = [0x00, 0x72, 0xb2];
    const RED: [u8; 3] = [0xd5, 0x5e, 0x00];

    #[test]
    fn a_side_view_puts_metres_where_they_belong() {
        // 4 m across 480 pixels: 120 pixels a metre, z up.
        let shapes =
            vec![ball([1.0, 0.5], 0.1, Paint::Body), slab([-1.0, 0.0], [0.2, 0.1], 0.0, Paint::Accent)];
        let canvas = frame(&Scene::side([0.0, 0.0], 4.0, 2.0, 0.05, shapes), 1.0).unwrap();
        assert_eq!((canvas.width(), canvas.height()), (480, 240));
        assert_eq!(colour(&canvas, 360, 60), BLUE);
        assert_eq!(colour(&canvas, 360 + 11, 60), BLUE);
        assert_eq!(colour(&canvas, 360 + 15, 60), [255; 3]);
        assert_eq!(colour(&canvas, 120 - 22, 120 + 10), RED);
        assert_eq!(colour(&canvas, 120 - 22, 120 + 14), [255; 3]);
    }

    #[test]
    fn near_things_hide_far_ones_and_are_larger() {
        let ball =
            |y: f64, paint| Shape::Capsule { from: [0.0, y, 1.0], to: [0.0, y, 1.0], radius: 0.2, paint };
        // The eye is on the −y side, at the height of the balls.
        let camera = Camera::Orbit {
            target: [0.0, 0.0, 1.0],
            distance: 5.0,
            azimuth: -std::f64::consts::FRAC_PI_2,
            elevation: 0.0,
        };
        let look =
            |shapes| frame(&Scene { camera, ground: true, shapes, dt: 0.1, remembers: false }, 1.0).unwrap();
        for shapes in [
            vec![ball(-1.0, Paint::Body), ball(1.0, Paint::Accent)],
            vec![ball(1.0, Paint::Accent), ball(-1.0, Paint::Body)],
        ] {
            assert_eq!(colour(&look(shapes), 240, 180), BLUE);
        }
        let size = |y| look(vec![ball(y, Paint::Body)]).pixels().iter().filter(|p| p.red() == 0).count();
        assert!(size(-1.0) > 2 * size(2.0));
    }

    /// Words stand on their baseline and begin, or end, where they should; what XML reserves does no harm.
    #[test]
    fn words_are_written_where_they_belong() {
        // 4 m across 480 pixels; the middle is at (240, 120).
        let inked = |shape: Shape| {
            let canvas = frame(&Scene::side([0.0, 0.0], 4.0, 2.0, 0.05, vec![shape]), 1.0).unwrap();
            let mut places = Vec::new();
            for y in 0..canvas.height() {
                places
                    .extend((0..canvas.width()).filter(|x| colour(&canvas, *x, y)[0] < 0x80).map(|x| (x, y)));
            }
            places
        };
        let right = inked(words([0.0, 0.0], 0.4, "<&>", Paint::Body));
        assert!(right.len() > 50 && right.iter().all(|(x, y)| *x >= 240 && *y < 130), "{right:?}");
        let left = inked(words_up_to([0.0, 0.0], 0.4, "<&>", Paint::Body));
        assert!(left.len() > 50 && left.iter().all(|(x, y)| *x <= 240 && *y < 130));
    }

    #[test]
    fn a_still_is_of_the_middle_or_of_the_end_of_what_shows_everything() {
        for (env, end) in [("Pendulum-v1", false), ("uav-trajectory", true), ("uav-bs", true)] {
            let mut env = steadfast_envs::make(env).unwrap();
            let mut rng = rng::stream(0, Purpose::Check, 0);
            let (mut obs, mut reward) = (vec![0.0; env.spec().obs_len()], vec![0.0; env.spec().agents.len()]);
            env.reset(&mut rng, &mut obs);
            let action = vec![0.5; env.spec().action_len()];
            let moments: Vec<Moment> = (0..5)
                .map(|_| {
                    env.step(&action, &mut rng, &mut obs, &mut reward);
                    Moment::of(env.as_mut()).unwrap()
                })
                .collect();
            let expected = if end { &moments[4] } else { &moments[2] };
            assert!(std::ptr::eq(still(&moments), expected), "{}", env.spec().id);
        }
    }

    #[test]
    fn every_classic_task_has_a_picture_and_every_picture_shows_something() {
        for entry in steadfast_envs::REGISTRY.iter().filter(|e| !e.id.starts_with("probe/")) {
            let mut env = (entry.make)();
            let mut obs = vec![0.0; env.spec().obs_len()];
            env.reset(&mut rng::stream(0, Purpose::Check, 0), &mut obs);
            let canvas =
                frame(&env.scene().unwrap_or_else(|| panic!("{} has no picture", entry.id)), 1.0).unwrap();
            let inked = canvas.pixels().iter().filter(|p| p.red() < 0xf0).count();
            assert!(inked > 200, "{}: {inked} pixels", entry.id);
        }
    }

    #[test]
    fn a_gif_runs_at_the_speed_of_the_world() {
        let scene = |dt| Scene::side([0.0; 2], 1.0, 1.0, dt, vec![ball([0.0; 2], 0.1, Paint::Body)]);
        let read = |dt: f64, moments: usize| {
            let moments: Vec<Moment> = (0..moments).map(|_| Moment::Scene(scene(dt))).collect();
            let bytes = gif(&moments).unwrap();
            let mut decoder = gif::DecodeOptions::new().read_info(bytes.as_slice()).unwrap();
            let mut delays = Vec::new();
            while let Some(frame) = decoder.read_next_frame().unwrap() {
                delays.push(frame.delay);
            }
            delays
        };
        assert_eq!(read(0.05, 4), [5, 5, 5, 100]);
        // 8 ms a step are too fast for viewers: every fourth moment, and the last.
        assert_eq!(read(0.008, 10), [3, 3, 3, 100]);
    }
}
