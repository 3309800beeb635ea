//! The figure as text: Braille dots, eight to a character, so a panel is 136 x 60 dots.

use super::axis::{Axis, agents, x_axis, y_axis};
use super::svg::looks;
use super::{Curve, Labels};

/// Characters of a panel, without its labels.
const WIDTH: usize = 68;
const HEIGHT: usize = 15;
/// Characters left of a panel.
const MARGIN: usize = 9;
/// Terminal colours (of 256) near the figure's palette.
const COLORS: [u8; 8] = [33, 202, 36, 176, 214, 117, 185, 250];

/// Draws `curves` one panel an environment, without bands. Letters on the lines tell agents apart, and with
/// `color` colours do too.
pub fn terminal(curves: &[Curve], labels: &Labels, color: bool) -> String {
    let names = agents(curves);
    let looks = looks(&names);
    let mut out = String::new();
    for panel in curves.chunk_by(|a, b| a.env == b.env) {
        let (x, y) = (x_axis(panel, 5, labels), y_axis(panel, 4));
        let mut canvas = Canvas::new();
        for curve in panel {
            let agent = names.iter().position(|name| *name == curve.agent).unwrap_or(0);
            canvas.curve(curve, agent, names.len(), (&x, &y));
        }
        out.push_str(&format!("{}{}: {}\n", " ".repeat(MARGIN), panel[0].env, labels.y));
        for row in 0..HEIGHT {
            let labels = y.ticks.iter().filter(|(value, _)| place(&y, *value, HEIGHT) == HEIGHT - 1 - row);
            let label = labels.map(|(_, label)| label.as_str()).next().unwrap_or("");
            let side = if label.is_empty() { '│' } else { '┤' };
            out.push_str(&format!("{label:>width$} {side}", width = MARGIN - 2));
            canvas.row(row, color.then_some(&looks), &mut out);
            out.push('\n');
        }
        out.push_str(&format!("{}└{}\n", " ".repeat(MARGIN - 1), "─".repeat(WIDTH)));
        out.push_str(&format!("{}\n{:>end$}\n\n", x_labels(&x), labels.x, end = MARGIN + WIDTH));
    }
    for (agent, name) in names.iter().enumerate() {
        let key = painted(&letter(agent).to_string(), color.then_some(looks[agent]));
        out.push_str(&format!("{}{key} {name}\n", " ".repeat(MARGIN)));
    }
    out.push_str(&format!("{}{}\n", " ".repeat(MARGIN), labels.caption.replace("; bands", "; not drawn")));
    out
}

/// Which of `cells` equal parts of an axis holds `value`.
fn place(axis: &Axis, value: f64, cells: usize) -> usize {
    ((axis.share(value) * cells as f64) as usize).min(cells - 1)
}

/// Labels below their ticks, where they fit.
fn x_labels(axis: &Axis) -> String {
    let mut line = String::new();
    for (value, label) in &axis.ticks {
        let (length, used) = (label.chars().count(), line.chars().count());
        let start =
            (MARGIN + place(axis, *value, WIDTH)).saturating_sub(length / 2).min(MARGIN + WIDTH - length);
        if used == 0 || start > used {
            line.push_str(&" ".repeat(start - used));
            line.push_str(label);
        }
    }
    line
}

fn letter(agent: usize) -> char {
    char::from(b'a' + (agent % 26) as u8)
}

fn painted(text: &str, look: Option<usize>) -> String {
    match look {
        Some(look) => format!("\x1b[38;5;{}m{text}\x1b[0m", COLORS[look % COLORS.len()]),
        None => text.to_owned(),
    }
}

/// Dots of one character, the letter on it, and the agent drawn last.
#[derive(Clone, Copy, Default)]
struct Character {
    dots: u8,
    letter: bool,
    agent: usize,
}

struct Canvas(Vec<Character>);

impl Canvas {
    fn new() -> Self {
        Self(vec![Character::default(); WIDTH * HEIGHT])
    }

    /// Sets a dot: a character is 2 dots wide and 4 high.
    fn dot(&mut self, x: usize, y: usize, agent: usize) {
        // Bit of each dot in Unicode's Braille block, by row and column.
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let character = &mut self.0[(HEIGHT - 1 - y / 4) * WIDTH + x / 2];
        character.dots |= BITS[3 - y % 4][x % 2];
        if !character.letter {
            character.agent = agent;
        }
    }

    fn curve(&mut self, curve: &Curve, agent: usize, agents: usize, (x, y): (&Axis, &Axis)) {
        let dots = curve.x.iter().zip(&curve.centre);
        let dots = dots.map(|(a, b)| (place(x, *a, 2 * WIDTH), place(y, *b, 4 * HEIGHT)));
        let dots: Vec<(usize, usize)> = dots.collect();
        for pair in dots.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let length = x1.abs_diff(x0).max(y1.abs_diff(y0)).max(1);
            for i in 0..=length {
                let between = |a: usize, b: usize| {
                    let share = i as f64 / length as f64;
                    (a as f64 + (b as f64 - a as f64) * share).round() as usize
                };
                self.dot(between(x0, x1), between(y0, y1), agent);
            }
        }
        // Letters at other columns for each agent.
        let every = dots.len().div_ceil(4).max(1);
        for &(x, y) in dots.iter().skip(agent * every / agents.max(1) % every).step_by(every) {
            self.0[(HEIGHT - 1 - y / 4) * WIDTH + x / 2] = Character { dots: 0, letter: true, agent };
        }
    }

    fn row(&self, row: usize, looks: Option<&Vec<usize>>, out: &mut String) {
        for character in &self.0[row * WIDTH..(row + 1) * WIDTH] {
            let text = match character {
                Character { letter: true, agent, .. } => letter(*agent),
                Character { dots: 0, .. } => {
                    out.push(' ');
                    continue;
                }
                Character { dots, .. } => char::from_u32(0x2800 + u32::from(*dots)).unwrap_or(' '),
            };
            out.push_str(&painted(&text.to_string(), looks.map(|looks| looks[character.agent])));
        }
    }
}
