//! The figure as SVG text. Lengths are in pixels; y grows downwards.

use std::fmt::Write as _;

use super::axis::{Axis, agents, bounds, interval_axis, trimmed, x_axis, y_axis};
use super::{Curve, IntervalPanel, Labels};

/// The font of figures; a viewer without it takes the next in the list.
pub(super) const FONT: &str = "Noto Sans";
const FALLBACKS: &str = "'DejaVu Sans', Helvetica, Arial, sans-serif";

const TICK_SIZE: f64 = 11.0;
const TEXT_SIZE: f64 = 12.5;
const TITLE_SIZE: f64 = 13.5;
const INK: &str = "#222222";
const FAINT: &str = "#5f5f5f";
const GRID: &str = "#e7e7e7";
/// Space around the figure, and between parts of it.
const EDGE: f64 = 16.0;
const GAP: f64 = 22.0;
const LEGEND_ROW: f64 = 22.0;
const SWATCH: f64 = 34.0;
const LONGEST_NAME: f64 = 300.0;

/// Okabe and Ito's palette, told apart with every common kind of colour vision. Yellow is darkened, as it
/// is weak on white, and black is last, as its band is the heaviest.
const COLORS: [&str; 8] =
    ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800", "#000000"];
/// Dashes repeat at another period than colours, so that 24 agents differ; they also survive grey printing.
const DASHES: [&str; 3] = ["", "7 2.5", "2.5 2"];
const MARKERS: usize = 5;

/// Draws `curves`, one panel an environment, a shared legend, and a foot line about seeds and interval.
pub fn lines(curves: &[Curve], labels: &Labels) -> String {
    let panels: Vec<&[Curve]> = curves.chunk_by(|a, b| a.env == b.env).collect();
    let names = agents(curves);
    let looks = looks(&names);
    let columns = match panels.len() {
        0 | 1 => 1,
        2 | 4 => 2,
        _ => 3,
    };
    let (width, height, ticks) = if columns == 1 { (520.0, 310.0, 6) } else { (300.0, 190.0, 5) };
    let axes: Vec<(Axis, Axis)> =
        panels.iter().map(|p| (x_axis(p, ticks, labels), y_axis(p, ticks))).collect();
    let widths = axes.iter().flat_map(|(_, y)| &y.ticks).map(|(_, label)| text_width(label, TICK_SIZE));
    let label_width = widths.fold(20.0, f64::max) + 8.0;

    // Left to right: edge, vertical title, then for each column labels, panel, gap.
    let left = EDGE + TEXT_SIZE + 10.0;
    let pitch_x = label_width + width + GAP;
    let total_width = left + columns as f64 * pitch_x - GAP + EDGE + 8.0;
    // Top to bottom: edge, title, rows of (panel title, panel, labels), horizontal title, legend, foot line.
    let top = EDGE + if labels.title.is_some() { TITLE_SIZE + 16.0 } else { 0.0 };
    let pitch_y = TITLE_SIZE + 10.0 + height + TICK_SIZE + 8.0 + GAP;
    let rows = panels.len().div_ceil(columns).max(1);
    let panels_end = top + rows as f64 * pitch_y - GAP;
    let x_title_y = panels_end + TEXT_SIZE + 10.0;
    // Shared texts are centred under the panels.
    let middle = (left + label_width + total_width - EDGE - 8.0) / 2.0;
    let text_space = 2.0 * (total_width - EDGE - middle);
    let legend = legend_rows(&names, text_space);
    let legend_y = x_title_y + 12.0;
    let caption = wrapped(&labels.caption, TICK_SIZE, text_space);
    let caption_y = legend_y + legend.len() as f64 * LEGEND_ROW + TICK_SIZE + 8.0;
    let total_height = caption_y + (caption.len() as f64 - 1.0) * 1.4 * TICK_SIZE + EDGE;

    let mut page = Page::new(total_width, total_height);
    page.title(labels, middle, text_space);
    for (i, (panel, (x, y))) in panels.iter().zip(&axes).enumerate() {
        let frame = Frame {
            left: left + (i % columns) as f64 * pitch_x + label_width,
            top: top + (i / columns) as f64 * pitch_y + TITLE_SIZE + 10.0,
            width,
            height,
            x,
            y,
        };
        draw_panel(&mut page, i, &frame, panel, &names, &looks);
    }
    page.text(middle, x_title_y, "middle", TEXT_SIZE, INK, "", &labels.x);
    let (x, y) = (EDGE + TEXT_SIZE - 3.0, top + (panels_end - top) / 2.0);
    let turned = format!(" transform=\"rotate(-90 {} {})\"", num(x), num(y));
    page.text(x, y, "middle", TEXT_SIZE, INK, &turned, &labels.y);
    for (row, (items, row_width)) in legend.iter().enumerate() {
        let y = legend_y + (row as f64 + 0.5) * LEGEND_ROW;
        let mut x = (middle - row_width / 2.0).max(EDGE);
        for &agent in items {
            let style = Style::of(looks[agent]);
            let patch = format!(
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"12\" fill=\"{}\" fill-opacity=\"0.18\"/>",
                num(x),
                num(y - 6.0),
                num(SWATCH),
                style.color
            );
            if curves.iter().any(|curve| curve.seeds > 1) {
                page.line(&patch);
            }
            page.curve(&[(x, y), (x + SWATCH, y)], &style);
            page.marker(x + SWATCH / 2.0, y, &style);
            let name = fitted(names[agent], TEXT_SIZE, LONGEST_NAME);
            page.text(x + SWATCH + 7.0, y + 0.36 * TEXT_SIZE, "start", TEXT_SIZE, INK, "", &name);
            x += legend_item(names[agent]);
        }
    }
    page.foot(&caption, middle, caption_y)
}

/// Height of a row of intervals.
const ROW: f64 = 27.0;

/// Draws intervals: panels side by side, a row an agent or a pair of agents, its name on the left.
pub fn intervals(panels: &[IntervalPanel], labels: &Labels) -> String {
    let columns = panels.len().clamp(1, 4);
    let width = if columns == 1 { 380.0 } else { 190.0 };
    let mut names: Vec<&str> = panels.iter().flat_map(|p| &p.rows).map(|r| r.look.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let looks = looks(&names);
    let rows = panels.iter().map(|p| p.rows.len()).max().unwrap_or(1);
    let row_names =
        panels.iter().flat_map(|p| &p.rows).map(|r| text_width(&r.name, TEXT_SIZE).min(LONGEST_NAME));
    let label_width = row_names.fold(20.0, f64::max) + 12.0;
    let (height, left) = (rows as f64 * ROW + 6.0, EDGE + label_width);
    let total_width = left + columns as f64 * (width + GAP) - GAP + EDGE + 12.0;
    let top = EDGE + if labels.title.is_some() { TITLE_SIZE + 16.0 } else { 0.0 } + TITLE_SIZE + 10.0;
    let middle = (left + total_width - EDGE) / 2.0;
    let x_title_y = top + height + TICK_SIZE + 8.0 + TEXT_SIZE + 10.0;
    // The foot may use the whole width.
    let caption = wrapped(&labels.caption, TICK_SIZE, total_width - 2.0 * EDGE);
    let caption_y = x_title_y + TICK_SIZE + 14.0;
    let total_height = caption_y + (caption.len() as f64 - 1.0) * 1.4 * TICK_SIZE + EDGE;

    let mut page = Page::new(total_width, total_height);
    page.title(labels, total_width / 2.0, total_width - 2.0 * EDGE);
    for (i, panel) in panels.iter().enumerate() {
        let ends = panel.rows.iter().flat_map(|r| [&r.estimate.low, &r.estimate.high, &r.estimate.value]);
        let (low, high) = panel.range.unwrap_or_else(|| bounds(ends));
        let x = interval_axis(low, high, if columns == 1 { 6 } else { 4 });
        let left = left + i as f64 * (width + GAP);
        let at = |value: f64| left + x.share(value) * width;
        let bottom = top + height;
        for (value, label) in &x.ticks {
            page.rule((at(*value), top), (at(*value), bottom), GRID);
            page.rule((at(*value), bottom), (at(*value), bottom + 4.0), INK);
            page.text(at(*value), bottom + TICK_SIZE + 6.0, "middle", TICK_SIZE, INK, "", label);
        }
        if let Some((low, high)) = panel.range {
            let middle = at((low + high) / 2.0);
            page.rule((middle, top), (middle, bottom), FAINT);
        }
        page.text(
            left + width / 2.0,
            top - 8.0,
            "middle",
            TITLE_SIZE,
            INK,
            " font-weight=\"bold\"",
            &panel.title,
        );
        for (row, r) in panel.rows.iter().enumerate() {
            let y = top + 3.0 + (row as f64 + 0.5) * ROW;
            let place = names.iter().position(|name| *name == r.look).unwrap_or(0);
            let color = Style::of(looks[place]).color;
            if i == 0 {
                let name = fitted(&r.name, TEXT_SIZE, LONGEST_NAME);
                page.text(left - 10.0, y + 0.36 * TEXT_SIZE, "end", TEXT_SIZE, INK, "", &name);
            }
            let (a, b, v) = (at(r.estimate.low), at(r.estimate.high), at(r.estimate.value));
            page.line(&format!(
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"14\" fill=\"{color}\" fill-opacity=\"0.4\"/>",
                num(a),
                num(y - 7.0),
                num((b - a).max(0.5))
            ));
            page.line(&format!(
                "<path d=\"M{0} {1}L{0} {2}\" stroke=\"{color}\" stroke-width=\"2.6\"/>",
                num(v),
                num(y - 9.0),
                num(y + 9.0)
            ));
        }
        page.rule((left, bottom), (left + width, bottom), INK);
        page.rule((left, top), (left, bottom), INK);
    }
    page.text(middle, x_title_y, "middle", TEXT_SIZE, INK, "", &labels.x);
    page.foot(&caption, total_width / 2.0, caption_y)
}

/// Looks that the agents of the suite have in every figure.
const KNOWN: [(&str, usize); 15] = [
    ("mdpo", 0),
    ("ppo", 1),
    ("trpo", 2),
    ("sac", 3),
    ("mdpo_off", 4),
    ("hyperpp", 5),
    ("hatrpo", 6),
    ("random", 7),
    ("matrl", 8),
    ("mappo", 9),
    ("ippo", 10),
    ("itrpo", 11),
    ("happo", 12),
    ("ga_matr", 13),
    ("maddpg", 14),
];
const LOOKS: usize = COLORS.len() * DASHES.len();

/// The look of each agent: the known one, or else one that its name decides, so that an agent looks the same in every
/// figure; where two meet, the later name takes the next free look, of another colour if there is one.
pub(super) fn looks(names: &[&str]) -> Vec<usize> {
    let known = |name: &str| KNOWN.iter().find(|(k, _)| *k == name).map(|(_, look)| *look);
    let mut taken: Vec<usize> = names.iter().filter_map(|name| known(name)).collect();
    let mut looks = Vec::with_capacity(names.len());
    for name in names {
        let look = known(name).unwrap_or_else(|| {
            // FNV-1a.
            let hash = name
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
            let first = (hash >> 16) as usize % LOOKS;
            let mut order = (0..LOOKS).map(|i| (first + i) % LOOKS);
            let colors = |look: &usize| taken.iter().all(|t| t % COLORS.len() != look % COLORS.len());
            let free = order.clone().find(colors).or_else(|| order.find(|look| !taken.contains(look)));
            free.unwrap_or(first)
        });
        taken.push(look);
        looks.push(look);
    }
    looks
}

/// Colour and dashes of a look.
pub(super) fn look(index: usize) -> (&'static str, &'static str) {
    let Style { color, dash, .. } = Style::of(index);
    (color, dash)
}

/// Where a panel lies and what its sides mean.
struct Frame<'a> {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    x: &'a Axis,
    y: &'a Axis,
}

impl Frame<'_> {
    fn at_x(&self, value: f64) -> f64 {
        self.left + self.x.share(value) * self.width
    }

    fn at_y(&self, value: f64) -> f64 {
        self.top + (1.0 - self.y.share(value)) * self.height
    }
}

fn draw_panel(
    page: &mut Page,
    index: usize,
    frame: &Frame,
    panel: &[Curve],
    names: &[&str],
    looks: &[usize],
) {
    let &Frame { left, top, width, height, .. } = frame;
    let (right, bottom) = (left + width, top + height);
    for (value, label) in &frame.y.ticks {
        let y = frame.at_y(*value);
        page.rule((left, y), (right, y), GRID);
        page.rule((left - 4.0, y), (left, y), INK);
        page.text(left - 7.0, y + 0.36 * TICK_SIZE, "end", TICK_SIZE, INK, "", label);
    }
    for (value, label) in &frame.x.ticks {
        let x = frame.at_x(*value);
        page.rule((x, top), (x, bottom), GRID);
        page.rule((x, bottom), (x, bottom + 4.0), INK);
        page.text(x, bottom + TICK_SIZE + 6.0, "middle", TICK_SIZE, INK, "", label);
    }
    let name = panel.first().map_or("", |curve| &curve.env);
    let name = fitted(name, TITLE_SIZE, width);
    page.text(left + width / 2.0, top - 8.0, "middle", TITLE_SIZE, INK, " font-weight=\"bold\"", &name);

    let (x, y, w, h) = (num(left), num(top), num(width), num(height));
    page.line(&format!(
        "<clipPath id=\"panel{index}\"><rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"/></clipPath>"
    ));
    page.line(&format!("<g clip-path=\"url(#panel{index})\">"));
    let place = |curve: &Curve| names.iter().position(|n| *n == curve.agent).unwrap_or(0);
    let style = |curve: &Curve| Style::of(looks[place(curve)]);
    // All bands lie below all lines.
    for curve in panel.iter().filter(|curve| curve.seeds > 1) {
        let upper = curve.x.iter().zip(&curve.high);
        let lower = curve.x.iter().zip(&curve.low).rev();
        let outline: Vec<(f64, f64)> =
            upper.chain(lower).map(|(x, y)| (frame.at_x(*x), frame.at_y(*y))).collect();
        let fill = style(curve).color;
        page.line(&format!(
            "<polygon points=\"{}\" fill=\"{fill}\" fill-opacity=\"0.18\"/>",
            points(&outline)
        ));
    }
    let lines = panel.iter().map(|curve| {
        let line = curve.x.iter().zip(&curve.centre).map(|(x, y)| (frame.at_x(*x), frame.at_y(*y)));
        (place(curve), style(curve), line.collect::<Vec<_>>())
    });
    type Points = Vec<(f64, f64)>;
    let lines: Vec<(usize, Style, Points)> = lines.collect();
    for (_, style, line) in &lines {
        page.curve(line, style);
    }
    page.line("</g>");
    page.rule((left, top), (left, bottom), INK);
    page.rule((left, bottom), (right, bottom), INK);
    for (place, style, line) in &lines {
        // About six markers a line, at other points for each agent, so that they do not hide each other.
        let every = line.len().div_ceil(6).max(1);
        for (x, y) in line.iter().skip(place * every / names.len().max(1) % every).step_by(every) {
            page.marker(*x, *y, style);
        }
    }
}

/// How an agent looks.
struct Style {
    index: usize,
    color: &'static str,
    dash: &'static str,
}

impl Style {
    fn of(index: usize) -> Self {
        Self { index, color: COLORS[index % COLORS.len()], dash: DASHES[index % DASHES.len()] }
    }
}

/// SVG text under construction.
struct Page(String);

impl Page {
    /// A white page of that size.
    fn new(width: f64, height: f64) -> Self {
        let mut page = Self(String::new());
        let (w, h) = (num(width), num(height));
        page.line(&format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             font-family=\"'{FONT}', {FALLBACKS}\">"
        ));
        page.line("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
        page
    }

    /// The heading, if there is one.
    fn title(&mut self, labels: &Labels, middle: f64, space: f64) {
        if let Some(title) = &labels.title {
            let size = 1.15 * TITLE_SIZE;
            let title = fitted(title, size, space);
            self.text(middle, EDGE + TITLE_SIZE, "middle", size, INK, " font-weight=\"bold\"", &title);
        }
    }

    /// The lines at the foot; the page is then complete.
    fn foot(mut self, caption: &[String], middle: f64, y: f64) -> String {
        for (i, line) in caption.iter().enumerate() {
            self.text(middle, y + i as f64 * 1.4 * TICK_SIZE, "middle", TICK_SIZE, FAINT, "", line);
        }
        self.line("</svg>");
        self.0
    }

    fn line(&mut self, element: &str) {
        self.0.push_str(element);
        self.0.push('\n');
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: f64, color: &str, extra: &str, text: &str) {
        self.line(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\" font-size=\"{}\" fill=\"{color}\"{extra}>{}</text>",
            num(x),
            num(y),
            num(size),
            escaped(text)
        ));
    }

    fn rule(&mut self, from: (f64, f64), to: (f64, f64), color: &str) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(num);
        self.line(&format!("<path d=\"M{x1} {y1}L{x2} {y2}\" stroke=\"{color}\" stroke-width=\"1\"/>"));
    }

    fn curve(&mut self, line: &[(f64, f64)], style: &Style) {
        let dash = if style.dash.is_empty() {
            String::new()
        } else {
            format!(" stroke-dasharray=\"{}\"", style.dash)
        };
        self.line(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" stroke-linejoin=\"round\"{dash}/>",
            points(line),
            style.color
        ));
    }

    /// A filled shape with a white rim: circle, square, triangle, diamond or the triangle on its head.
    fn marker(&mut self, x: f64, y: f64, style: &Style) {
        let corners: &[(f64, f64)] = match style.index % MARKERS {
            0 => &[],
            1 => &[(-3.2, -3.2), (3.2, -3.2), (3.2, 3.2), (-3.2, 3.2)],
            2 => &[(0.0, -4.4), (4.2, 3.2), (-4.2, 3.2)],
            3 => &[(0.0, -4.7), (4.7, 0.0), (0.0, 4.7), (-4.7, 0.0)],
            _ => &[(0.0, 4.4), (4.2, -3.2), (-4.2, -3.2)],
        };
        let look = format!("fill=\"{}\" stroke=\"#ffffff\" stroke-width=\"1\"", style.color);
        if corners.is_empty() {
            self.line(&format!("<circle cx=\"{}\" cy=\"{}\" r=\"3.8\" {look}/>", num(x), num(y)));
        } else {
            let shape: Vec<(f64, f64)> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
            self.line(&format!("<polygon points=\"{}\" {look}/>", points(&shape)));
        }
    }
}

/// Agents of each row of the legend, with the row's width.
fn legend_rows(names: &[&str], most: f64) -> Vec<(Vec<usize>, f64)> {
    let mut rows: Vec<(Vec<usize>, f64)> = Vec::new();
    for (agent, name) in names.iter().enumerate() {
        let item = legend_item(name);
        match rows.last_mut() {
            Some((items, width)) if *width + item <= most => {
                items.push(agent);
                *width += item;
            }
            _ => rows.push((vec![agent], item)),
        }
    }
    rows
}

fn legend_item(name: &str) -> f64 {
    SWATCH + 7.0 + text_width(name, TEXT_SIZE).min(LONGEST_NAME) + 22.0
}

/// `text` in lines of at most `most` pixels, broken between words.
fn wrapped(text: &str, size: f64, most: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().cloned().unwrap_or_default();
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if line.is_empty() || text_width(&longer, size) <= most {
            lines.pop();
            lines.push(longer);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// `text`, shortened to `most` pixels.
fn fitted(text: &str, size: f64, most: f64) -> String {
    if text_width(text, size) <= most {
        return text.to_owned();
    }
    let mut kept = text.to_owned();
    while text_width(&kept, size) > most - size && kept.pop().is_some() {}
    format!("{kept}…")
}

/// Widths of ASCII from the space on in the font, in hundredths of its size.
const ADVANCES: &[u8; 95] = &[
    26, 27, 41, 65, 57, 83, 73, 23, 30, 30, 55, 57, 27, 32, 27, 37, 57, 57, 57, 57, 57, 57, 57, 57, 57, 57,
    27, 27, 57, 57, 57, 43, 90, 64, 65, 63, 73, 56, 52, 73, 74, 34, 27, 62, 52, 91, 76, 78, 60, 78, 62, 55,
    56, 73, 60, 93, 59, 57, 57, 33, 37, 33, 57, 44, 58, 56, 62, 48, 62, 56, 34, 62, 62, 26, 26, 53, 26, 94,
    62, 60, 62, 62, 41, 48, 36, 62, 51, 79, 53, 51, 47, 38, 55, 38, 57,
];

/// Width of `text` in pixels, with a tenth to spare for bold faces and wider fonts.
fn text_width(text: &str, size: f64) -> f64 {
    let advance = |c: char| match c as usize {
        i @ 32..127 => f64::from(ADVANCES[i - 32]),
        0x2212 => 57.0,
        // Other scripts may be as wide as they are high.
        _ => 100.0,
    };
    1.1 * size * text.chars().map(advance).sum::<f64>() / 100.0
}

/// At most two decimals, and always a number: what is far outside the page stays outside.
fn num(value: f64) -> String {
    let text = format!("{:.2}", if value.is_nan() { 0.0 } else { value.clamp(-1e5, 1e5) });
    match trimmed(&text) {
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

fn points(line: &[(f64, f64)]) -> String {
    let mut text = String::new();
    for (i, (x, y)) in line.iter().enumerate() {
        let space = if i == 0 { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{space}{},{}", num(*x), num(*y));
    }
    text
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Control characters are not allowed in XML.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
