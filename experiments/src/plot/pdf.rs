//! The figure as PDF: one page of vector graphics. Text becomes outlines, so no reader needs the font.
//!
//! Only what our figures use: filled and stroked paths in plain colours, opacity, dashes, rectangular clips.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context, Result, bail};
use resvg::tiny_skia::{PathSegment, Transform};
use resvg::usvg::{self, FillRule, LineCap, LineJoin, Node, Paint};

/// Points of the page a pixel.
const POINTS: f32 = 0.75;

/// `tree` as the bytes of a PDF file; the same tree gives the same bytes.
///
/// # Errors
/// For an image or a gradient, which figures do not have.
pub(super) fn pdf(tree: &usvg::Tree) -> Result<Vec<u8>> {
    let (width, height) = (POINTS * tree.size().width(), POINTS * tree.size().height());
    let mut page = Page { content: String::new(), opacities: Vec::new() };
    // In PDF y grows upwards.
    page.op(&[POINTS, 0.0, 0.0, -POINTS, 0.0, height], "cm");
    page.group(tree.root())?;
    let mut states = String::new();
    for (i, opacity) in page.opacities.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(states, "/G{i} <</ca {opacity} /CA {opacity}>> ");
    }
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed
        .write_all(page.content.as_bytes())
        .and_then(|()| packed.try_finish())
        .context("cannot pack the page")?;
    let packed = packed.finish().context("cannot pack the page")?;
    let head = |text: &str| text.as_bytes().to_vec();
    let stream = format!("<</Length {} /Filter /FlateDecode>>\nstream\n", packed.len());
    let objects = [
        head("<</Type /Catalog /Pages 2 0 R>>"),
        head("<</Type /Pages /Kids [3 0 R] /Count 1>>"),
        format!(
            "<</Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents 4 0 R \
             /Resources <</ExtGState <<{states}>>>>>>"
        )
        .into_bytes(),
        [stream.as_bytes(), &packed, b"\nendstream"].concat(),
    ];
    let mut file = b"%PDF-1.4\n%\xE2\xE3\xCF\xD3\n".to_vec();
    let mut places = Vec::new();
    for (i, object) in objects.iter().enumerate() {
        places.push(file.len());
        file.extend(format!("{} 0 obj\n", i + 1).bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    let (start, count) = (file.len(), objects.len() + 1);
    let mut tail = format!("xref\n0 {count}\n0000000000 65535 f \n");
    for place in places {
        let _ = writeln!(tail, "{place:010} 00000 n ");
    }
    let _ = write!(tail, "trailer\n<</Size {count} /Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n");
    file.extend(tail.bytes());
    Ok(file)
}

/// A content stream under construction, and the opacities that it names.
struct Page {
    content: String,
    opacities: Vec<f32>,
}

impl Page {
    fn op(&mut self, numbers: &[f32], operator: &str) {
        for number in numbers {
            let _ = write!(self.content, "{} ", (number * 1e4).round() / 1e4);
        }
        self.content.push_str(operator);
        self.content.push('\n');
    }

    fn group(&mut self, group: &usvg::Group) -> Result<()> {
        self.op(&[], "q");
        if let Some(clip) = group.clip_path() {
            let transform = group.abs_transform().pre_concat(clip.transform());
            for node in clip.root().children() {
                if let Node::Path(path) = node {
                    self.path(path.data(), transform);
                }
            }
            self.op(&[], "W n");
        }
        for node in group.children() {
            match node {
                Node::Group(group) => self.group(group)?,
                Node::Path(path) => self.paint(path)?,
                Node::Text(text) => self.group(text.flattened())?,
                Node::Image(_) => bail!("a figure with an image cannot be a PDF"),
            }
        }
        self.op(&[], "Q");
        Ok(())
    }

    fn paint(&mut self, path: &usvg::Path) -> Result<()> {
        if let Some(fill) = path.fill() {
            self.color(fill.paint(), fill.opacity().get(), "rg")?;
            self.path(path.data(), path.abs_transform());
            self.op(&[], if fill.rule() == FillRule::EvenOdd { "f*" } else { "f" });
        }
        if let Some(stroke) = path.stroke() {
            self.color(stroke.paint(), stroke.opacity().get(), "RG")?;
            // Figures turn and move, but never stretch: widths stay as they are.
            self.op(&[stroke.width().get()], "w");
            self.op(
                &[match stroke.linejoin() {
                    LineJoin::Round => 1.0,
                    LineJoin::Bevel => 2.0,
                    _ => 0.0,
                }],
                "j",
            );
            self.op(
                &[match stroke.linecap() {
                    LineCap::Butt => 0.0,
                    LineCap::Round => 1.0,
                    LineCap::Square => 2.0,
                }],
                "J",
            );
            let dashes: Vec<String> = stroke.dasharray().unwrap_or(&[]).iter().map(f32::to_string).collect();
            self.op(&[], &format!("[{}] {} d", dashes.join(" "), stroke.dashoffset()));
            self.path(path.data(), path.abs_transform());
            self.op(&[], "S");
        }
        Ok(())
    }

    fn color(&mut self, paint: &Paint, opacity: f32, operator: &str) -> Result<()> {
        let Paint::Color(color) = paint else { bail!("a figure with a gradient cannot be a PDF") };
        let state = self.opacities.iter().position(|o| *o == opacity).unwrap_or_else(|| {
            self.opacities.push(opacity);
            self.opacities.len() - 1
        });
        self.op(&[], &format!("/G{state} gs"));
        self.op(&[color.red, color.green, color.blue].map(|c| f32::from(c) / 255.0), operator);
        Ok(())
    }

    fn path(&mut self, path: &resvg::tiny_skia::Path, transform: Transform) {
        let Some(path) = path.clone().transform(transform) else { return };
        let mut at = resvg::tiny_skia::Point::zero();
        for segment in path.segments() {
            match segment {
                PathSegment::MoveTo(p) => {
                    self.op(&[p.x, p.y], "m");
                    at = p;
                }
                PathSegment::LineTo(p) => {
                    self.op(&[p.x, p.y], "l");
                    at = p;
                }
                PathSegment::QuadTo(c, p) => {
                    // The same curve as a cubic one.
                    let third = |a: f32, c: f32| a + (c - a) * 2.0 / 3.0;
                    let controls = [third(at.x, c.x), third(at.y, c.y), third(p.x, c.x), third(p.y, c.y)];
                    self.op(&[controls[0], controls[1], controls[2], controls[3], p.x, p.y], "c");
                    at = p;
                }
                PathSegment::CubicTo(a, b, p) => {
                    self.op(&[a.x, a.y, b.x, b.y, p.x, p.y], "c");
                    at = p;
                }
                PathSegment::Close => self.op(&[], "h"),
            }
        }
    }
}
