//! `hierarchy/key-door`: fetch the keys that open the way through locked rooms.
//!
//! Rooms of s × s cells (`size`), numbered from 0, in a chain or a tree. Room i > 0 is entered from an earlier one through
//! door i, a cell in the wall between them, which is locked until key i is held. In a chain the earlier one is room i − 1,
//! in a tree any: room and side are drawn evenly from what is free. Key i lies in any of the rooms 0 … i − 1, the
//! start in room 0 and the goal in the last room. A tree thus has rooms and keys that the way to the goal does not need.
//!
//! - Levels: a number names the layout, the keys, the goal and the start. Training levels are 0, 1, …; the held-out ones
//!   begin at 2³².
//! - Action: north, east, south, west. Walls and locked doors stop a move. A key is taken by walking on it, and kept.
//! - Observation: the `view` × `view` tiles around the agent as four planes, [walls, locked doors, keys, goal]: 1 for a
//!   wall and the goal, i / (rooms − 1) for door or key i, 0 elsewhere; beyond the rooms all is wall. Then a flag for each
//!   key held; then, with `compass`, the goal's rows and columns from here over rooms × (s + 1).
//! - Reward: at the goal the length of the shortest way, all fetching included, over the steps taken; 0 before. Thus the
//!   optimum is 1 on every level.
//! - Terminates at the goal; 4 × rooms × cells steps. No shortest way is as long as a quarter of that: it leads to each of the
//!   rooms − 1 keys and the goal once, and on no leg to a cell twice.
//!
//! Comparator `oracle`: the shortest way, by a search over cells and keys held, return 1.

use std::ops::Range;

use rand::RngExt as _;

use super::{Count, Levels, Odd, numbers};
use crate::options::{OptionValue, Options as _, choice, options};
use crate::rng::{Purpose, stream};
use crate::scene::{Paint, ball, slab, words};
use crate::{Env, OptionError, Rng, Scene, Space, Spec, State, StateError};

choice! {
    /// From which rooms others are entered.
    pub enum Shape: "chain or tree" {
        /// Each from the one before.
        Chain = "chain",
        /// Each from any before.
        Tree = "tree",
    }
}

/// How many there are of something that is searched through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handful(pub usize);

impl OptionValue for Handful {
    const TAKES: &'static str = "a whole number from 2 to 8";
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|n| (2..=8).contains(n)).map(Self)
    }
    fn text(&self) -> String {
        self.0.to_string()
    }
}

options! {
    /// What `hierarchy/key-door` leaves to its user.
    pub struct KeyDoorOptions {
        /// Rooms, all but the first of them behind a door.
        rooms: Handful = Handful(4),
        /// Cells along a side of a room, s.
        size: Handful = Handful(3),
        /// From which rooms others are entered.
        shape: Shape = Shape::Tree,
        /// Tiles along a side of what is seen.
        view: Odd = Odd(7),
        /// Whether the direction of the goal is seen.
        compass: bool = true,
        /// Levels to play.
        levels: Levels = Levels::Train,
        /// How many training levels there are; 0: no limit.
        num_levels: Count = Count(200),
        /// What the levels are drawn from.
        level_seed: Count = Count(0),
    }
}

impl KeyDoorOptions {
    /// The options with the `given` keys and values.
    ///
    /// # Errors
    /// For an unknown option and a value that it does not take.
    pub fn given(id: &str, given: &[(&str, &str)]) -> Result<Self, OptionError> {
        Self::of(id, given)
    }

    /// Numbers of the levels that are played.
    fn range(&self) -> Range<u64> {
        numbers(self.levels, self.num_levels)
    }
}

/// A tile that is no cell.
const NONE: usize = usize::MAX;

/// A state that the search did not reach.
const FAR: u32 = u32::MAX;

/// Most rooms: [`Handful`].
const ROOMS: usize = 8;

/// The task of this module.
///
/// Cells are numbered room by room and row by row; after them come the doors, door i as number rooms × s² + i − 1. Sets of keys
/// are bits, key i at i − 1.
pub struct KeyDoor {
    spec: Spec,
    options: KeyDoorOptions,
    /// Width of the border around the tiles, of which the agent sees at most so much.
    border: usize,
    /// Tiles in a row, with the border.
    width: usize,
    /// 1 for a wall, row by row.
    tiles: Vec<f32>,
    /// The cell of each tile.
    cell_of: Vec<usize>,
    /// The tile of each cell.
    tile_of: Vec<usize>,
    /// The key that lies in each cell, as a set.
    gain: Vec<usize>,
    /// Rows and columns of rooms.
    extent: [usize; 2],
    /// Steps to the goal from each state, `[2^keys, cells]`.
    steps: Vec<u32>,
    /// Scratch: states of a search.
    queue: Vec<usize>,
    level: u64,
    goal: usize,
    start: usize,
    cell: usize,
    held: usize,
    taken: u64,
}

impl KeyDoor {
    /// The task with these options, as [`KeyDoorOptions::given`] checked them.
    pub fn new(id: &str, options: KeyDoorOptions) -> Self {
        let (rooms, size, view) = (options.rooms.0, options.size.0, options.view.0);
        let border = view / 2;
        let width = rooms * (size + 1) + 1 + 2 * border;
        let cells = rooms * size * size + rooms - 1;
        let states = cells << (rooms - 1);
        let seen = 4 * view * view + rooms - 1;
        let directions = if options.compass { 2 } else { 0 };
        let low = [vec![0.0; seen], vec![-1.0; directions]].concat();
        let obs = Space::Box { high: vec![1.0; low.len()], low };
        let spec = Spec {
            reward_threshold: Some(0.95),
            reward_range: (0.0, 1.0),
            ..Spec::single(id, obs, Space::Discrete(4), Some(4 * rooms * cells))
        };
        let mut env = Self {
            spec,
            border,
            width,
            tiles: vec![1.0; width * width],
            cell_of: vec![NONE; width * width],
            tile_of: vec![0; cells],
            gain: vec![0; cells],
            extent: [0; 2],
            steps: vec![FAR; states],
            queue: Vec::with_capacity(states),
            level: 0,
            goal: 0,
            start: 0,
            cell: 0,
            held: 0,
            taken: 0,
            options,
        };
        env.enter(env.options.range().start);
        env
    }

    fn cells(&self) -> usize {
        self.tile_of.len()
    }

    /// The key that a cell asks for, as a set.
    fn lock(&self, cell: usize) -> usize {
        let inside = self.options.rooms.0 * self.options.size.0 * self.options.size.0;
        if cell < inside { 0 } else { 1 << (cell - inside) }
    }

    /// The cell next to another in one of four directions.
    fn beside(&self, cell: usize, direction: usize) -> Option<usize> {
        let tile = self.tile_of[cell];
        let next = [tile - self.width, tile + 1, tile + self.width, tile - 1][direction];
        Some(self.cell_of[next]).filter(|c| *c != NONE)
    }

    /// The cell and the keys after a move.
    fn moved(&self, cell: usize, held: usize, direction: usize) -> (usize, usize) {
        match self.beside(cell, direction) {
            Some(next) if self.lock(next) & !held == 0 => (next, held | self.gain[next]),
            _ => (cell, held),
        }
    }

    /// Whether one can be in a cell with these keys.
    fn possible(&self, cell: usize, held: usize) -> bool {
        (self.lock(cell) | self.gain[cell]) & !held == 0
    }

    /// Builds a level and goes to its start.
    fn enter(&mut self, level: u64) {
        let (rooms, room) = (self.options.rooms.0, self.options.size.0 * self.options.size.0);
        let mut rng = stream(self.options.level_seed.0 as u64, Purpose::Level, level);
        self.build(&mut rng);
        self.start = rng.random_range(0..room);
        self.goal = rng.random_range((rooms - 1) * room..rooms * room);
        self.gain.fill(0);
        for i in 1..rooms {
            let mut cell = self.start;
            while cell == self.start || self.gain[cell] > 0 {
                cell = rng.random_range(0..i * room);
            }
            self.gain[cell] = 1 << (i - 1);
        }
        self.search();
        (self.level, self.cell, self.held, self.taken) = (level, self.start, 0, 0);
    }

    /// Rooms and doors.
    fn build(&mut self, rng: &mut Rng) {
        let (rooms, s) = (self.options.rooms.0, self.options.size.0);
        // Where each room is, in rooms, and from which it is entered in which direction. A chain cannot shut
        // itself in: the shortest walk on a grid that does visits eight places before it is stuck.
        let mut places = [[ROOMS; 2]; ROOMS];
        let mut entrances = [(0, 0); ROOMS];
        let next = |[row, column]: [usize; 2], direction: usize| match direction {
            0 => [row - 1, column],
            1 => [row, column + 1],
            2 => [row + 1, column],
            _ => [row, column - 1],
        };
        for i in 1..rooms {
            let first = if self.options.shape == Shape::Chain { i - 1 } else { 0 };
            let (mut free, mut count) = ([(0, 0); 4 * ROOMS], 0);
            for (from, direction) in (first..i).flat_map(|from| (0..4).map(move |d| (from, d))) {
                if !places[..i].contains(&next(places[from], direction)) {
                    free[count] = (from, direction);
                    count += 1;
                }
            }
            entrances[i] = free[rng.random_range(0..count)];
            places[i] = next(places[entrances[i].0], entrances[i].1);
        }
        let least = |axis: usize| places[..rooms].iter().map(|p| p[axis]).min().unwrap_or(0);
        let most = |axis: usize| places[..rooms].iter().map(|p| p[axis]).max().unwrap_or(0);
        let corner = [least(0), least(1)];
        self.extent = [most(0) - corner[0] + 1, most(1) - corner[1] + 1];

        self.tiles.fill(1.0);
        self.cell_of.fill(NONE);
        let first_tile = |i: usize| {
            let [row, column] = [0, 1].map(|a| self.border + 1 + (places[i][a] - corner[a]) * (s + 1));
            row * self.width + column
        };
        for (cell, tile) in self.tile_of[..rooms * s * s].iter_mut().enumerate() {
            let (row, column) = (cell / s % s, cell % s);
            *tile = first_tile(cell / (s * s)) + row * self.width + column;
        }
        for i in 1..rooms {
            let (from, direction) = entrances[i];
            let (tile, along) = (first_tile(from), rng.random_range(0..s));
            self.tile_of[rooms * s * s + i - 1] = match direction {
                0 => tile + along - self.width,
                1 => tile + along * self.width + s,
                2 => tile + along + s * self.width,
                _ => tile + along * self.width - 1,
            };
        }
        for (cell, tile) in self.tile_of.iter().enumerate() {
            (self.tiles[*tile], self.cell_of[*tile]) = (0.0, cell);
        }
    }

    /// Steps from every state to the goal, breadth first and backwards.
    fn search(&mut self) {
        let cells = self.cells();
        self.steps.fill(FAR);
        self.queue.clear();
        for state in (0..self.steps.len() / cells).map(|held| held * cells + self.goal) {
            self.steps[state] = 0;
            self.queue.push(state);
        }
        let mut done = 0;
        while let Some(&state) = self.queue.get(done) {
            done += 1;
            let (cell, held) = (state % cells, state / cells);
            // The key of this cell was held already, or taken here.
            let without = held & !self.gain[cell];
            let choices = if without == held { &[held][..] } else { &[held, without][..] };
            for (direction, held) in (0..4).flat_map(|d| choices.iter().map(move |held| (d, *held))) {
                let Some(before) = self.beside(cell, direction).filter(|c| *c != self.goal) else { continue };
                let earlier = held * cells + before;
                if self.possible(before, held) && self.steps[earlier] == FAR {
                    self.steps[earlier] = self.steps[state] + 1;
                    self.queue.push(earlier);
                }
            }
        }
    }

    /// Rows and columns from the agent to a cell.
    fn towards(&self, cell: usize) -> [isize; 2] {
        let (here, there) = (self.tile_of[self.cell], self.tile_of[cell]);
        let (rows, columns) = (there / self.width, there % self.width);
        [rows as isize - (here / self.width) as isize, columns as isize - (here % self.width) as isize]
    }

    fn observe(&self, obs: &mut [f32]) {
        let (rooms, s, view) = (self.options.rooms.0, self.options.size.0, self.options.view.0);
        let corner = self.tile_of[self.cell] - self.border * (self.width + 1);
        let (walls, rest) = obs.split_at_mut(view * view);
        for (row, seen) in walls.chunks_exact_mut(view).enumerate() {
            let from = corner + row * self.width;
            seen.copy_from_slice(&self.tiles[from..from + view]);
        }
        let (things, rest) = rest.split_at_mut(3 * view * view);
        things.fill(0.0);
        let reach = self.border as isize;
        let mut show = |plane: usize, cell: usize, value: f32| {
            let [rows, columns] = self.towards(cell);
            if rows.abs() <= reach && columns.abs() <= reach {
                let at = ((rows + reach) * view as isize + columns + reach) as usize;
                things[plane * view * view + at] = value;
            }
        };
        let value = |set: usize| (set.trailing_zeros() + 1) as f32 / (rooms - 1) as f32;
        let doors = (rooms * s * s..self.cells()).map(|door| (0, door, self.lock(door)));
        let keys = (0..rooms * s * s).map(|cell| (1, cell, self.gain[cell]));
        for (plane, cell, set) in doors.chain(keys) {
            if set & !self.held != 0 {
                show(plane, cell, value(set));
            }
        }
        show(2, self.goal, 1.0);
        let (flags, compass) = rest.split_at_mut(rooms - 1);
        for (i, flag) in flags.iter_mut().enumerate() {
            *flag = (self.held >> i & 1) as f32;
        }
        if let [r, c] = compass {
            let scale = (rooms * (s + 1)) as f32;
            let [rows, columns] = self.towards(self.goal);
            (*r, *c) = (rows as f32 / scale, columns as f32 / scale);
        }
    }
}

impl Env for KeyDoor {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.enter(rng.random_range(self.options.range()));
        self.observe(obs);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        (self.cell, self.held) = self.moved(self.cell, self.held, action[0] as usize);
        self.taken += 1;
        let over = self.cell == self.goal;
        reward[0] = if over { f64::from(self.steps[self.start]) / self.taken as f64 } else { 0.0 };
        self.observe(obs);
        over
    }

    fn save(&self, state: &mut State) {
        state.put_u64("state", &[self.level, self.cell as u64, self.held as u64, self.taken]);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let values = state.u64("state", 4)?;
        let (level, cell, held, taken) = (values[0], values[1], values[2], values[3]);
        let invalid = |why: String| Err(StateError::Invalid { name: "state".to_owned(), why });
        if !self.options.range().contains(&level) {
            return invalid(format!("level {level} is not among those that are played"));
        }
        if cell >= self.cells() as u64 {
            return invalid(format!("cell {cell} of {}", self.cells()));
        }
        if held >= 1 << (self.options.rooms.0 - 1) {
            return invalid(format!("keys {held:#b} of {}", self.options.rooms.0 - 1));
        }
        self.enter(level);
        if !self.possible(cell as usize, held as usize) {
            return invalid(format!("cell {cell} of level {level} cannot be reached without its key"));
        }
        (self.cell, self.held, self.taken) = (cell as usize, held as usize, taken);
        Ok(())
    }

    fn comparators(&self) -> &'static [&'static str] {
        &["oracle"]
    }

    fn comparator_action(&self, name: &str, _: &mut Rng, action: &mut [f64]) -> bool {
        if name != "oracle" {
            return false;
        }
        let steps = |(cell, held): (usize, usize)| self.steps[held * self.cells() + cell];
        let here = steps((self.cell, self.held));
        let nearer = |d: &usize| steps(self.moved(self.cell, self.held, *d)) < here;
        action[0] = (0..4).find(nearer).unwrap_or(0) as f64;
        true
    }

    /// The pairs of a cell and the keys held that can be reached, joined by the moves between them, to which there may be no
    /// way back: a key is not laid down again.
    fn state_graph(&self) -> Option<Vec<Vec<usize>>> {
        let mut number = vec![NONE; self.steps.len()];
        let (mut states, mut neighbours) = (vec![(self.start, 0)], vec![Vec::new()]);
        number[self.start] = 0;
        let mut done = 0;
        while let Some(&(cell, held)) = states.get(done) {
            for (next, held) in (0..4).map(|d| self.moved(cell, held, d)) {
                let state = held * self.cells() + next;
                if number[state] == NONE {
                    number[state] = states.len();
                    states.push((next, held));
                    neighbours.push(Vec::new());
                }
                let other = number[state];
                if other != done && !neighbours[done].contains(&other) {
                    neighbours[done].push(other);
                    neighbours[other].push(done);
                }
            }
            done += 1;
        }
        Some(neighbours)
    }

    fn scene(&self) -> Option<Scene> {
        let s = self.options.size.0;
        let at = |tile: usize| {
            let (row, column) = (tile / self.width - self.border, tile % self.width - self.border);
            [column as f64 + 0.5, -(row as f64 + 0.5)]
        };
        let [height, width] = self.extent.map(|rooms| rooms * (s + 1) + 1);
        let mut shapes = Vec::new();
        for (row, column) in (0..height).flat_map(|r| (0..width).map(move |c| (r, c))) {
            let tile = (row + self.border) * self.width + column + self.border;
            if self.tiles[tile] > 0.0 {
                shapes.push(slab(at(tile), [0.5; 2], 0.0, Paint::Still));
            }
        }
        shapes.push(slab(at(self.tile_of[self.goal]), [0.4; 2], 0.0, Paint::Goal));
        for (cell, tile) in self.tile_of.iter().enumerate() {
            let (lock, key) = (self.lock(cell) & !self.held, self.gain[cell] & !self.held);
            if lock != 0 {
                shapes.push(slab(at(*tile), [0.4; 2], 0.0, Paint::Accent));
            }
            if key != 0 {
                shapes.push(ball(at(*tile), 0.3, Paint::Accent));
            }
            if lock | key != 0 {
                let number = (lock | key).trailing_zeros() + 1;
                let [x, z] = at(*tile);
                shapes.push(words([x - 0.13, z - 0.15], 0.4, number.to_string(), Paint::Still));
            }
        }
        shapes.push(ball(at(self.tile_of[self.cell]), 0.3, Paint::Body));
        let (width, height) = (width as f64, height as f64);
        Some(Scene::side([width / 2.0, -height / 2.0], width + 1.0, height + 1.0, 0.1, shapes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gromov;
    use std::collections::{BTreeMap, BTreeSet};

    const ID: &str = "hierarchy/key-door";
    const SHAPES: [&str; 2] = ["chain", "tree"];

    fn task(given: &[(&str, &str)]) -> KeyDoor {
        KeyDoor::new(ID, KeyDoorOptions::given(ID, given).unwrap())
    }

    /// Length of the shortest way from the start, by steps of the task alone.
    fn explored(env: &mut KeyDoor) -> u32 {
        let (mut rng, mut obs, mut reward) =
            (stream(0, Purpose::Check, 0), vec![0.0; env.spec.obs_len()], [0.0]);
        let (level, start) = (env.level, env.start);
        let mut steps = BTreeMap::from([((start, 0), 0)]);
        let mut queue = std::collections::VecDeque::from([(start, 0)]);
        while let Some((cell, held)) = queue.pop_front() {
            for direction in 0..4 {
                (env.cell, env.held) = (cell, held);
                let over = env.step(&[f64::from(direction)], &mut rng, &mut obs, &mut reward);
                let count = steps[&(cell, held)] + 1;
                if over {
                    env.enter(level);
                    return count;
                }
                steps.entry((env.cell, env.held)).or_insert_with(|| {
                    queue.push_back((env.cell, env.held));
                    count
                });
            }
        }
        panic!("level {level} has no way to its goal");
    }

    #[test]
    fn the_oracle_takes_the_shortest_way_on_every_level() {
        let (mut rng, mut action, mut reward) = (stream(1, Purpose::Check, 0), [0.0], [0.0]);
        for (shape, rooms, size) in [
            ("tree", "4", "3"),
            ("chain", "4", "3"),
            ("tree", "8", "2"),
            ("chain", "6", "2"),
            ("chain", "2", "8"),
        ] {
            let mut env = task(&[("shape", shape), ("rooms", rooms), ("size", size), ("levels", "test")]);
            let mut obs = vec![0.0; env.spec.obs_len()];
            for _ in 0..20 {
                env.reset(&mut rng, &mut obs);
                let shortest = explored(&mut env);
                assert!((shortest as usize) < env.spec.max_steps.unwrap() / 4);
                let mut count = 0;
                loop {
                    assert!(env.comparator_action("oracle", &mut rng, &mut action));
                    count += 1;
                    if env.step(&action, &mut rng, &mut obs, &mut reward) {
                        break;
                    }
                    assert_eq!(reward[0], 0.0);
                }
                assert_eq!((reward[0], count), (1.0, shortest));
                // In a chain every key is needed.
                assert!(shape == "tree" || env.held == env.steps.len() / env.cells() - 1);
            }
        }
    }

    #[test]
    fn a_door_lets_in_whoever_has_its_key_and_no_one_else() {
        for (shape, level) in SHAPES.into_iter().flat_map(|s| (0..50).map(move |l| (s, l))) {
            let mut env = task(&[("shape", shape), ("num_levels", "0")]);
            env.enter(level);
            for door in 36..39 {
                let (key, all) = (env.lock(door), 0b111);
                assert_eq!(key, 1 << (door - 36));
                let sides: Vec<(usize, usize)> =
                    (0..4).filter_map(|d| env.beside(door, d).map(|c| (c, (d + 2) % 4))).collect();
                assert_eq!(sides.len(), 2, "a door has two sides");
                let rooms = sides.iter().map(|(c, _)| c / 9).collect::<BTreeSet<_>>();
                assert!(rooms.contains(&(door - 35)), "door {door} leads to its room");
                assert!(shape == "tree" || rooms.contains(&(door - 36)), "a chain leads to the next room");
                for (cell, direction) in sides {
                    assert_eq!(env.moved(cell, all ^ key, direction), (cell, all ^ key));
                    assert_eq!(env.moved(cell, key, direction), (door, key));
                }
                let cell = env.gain.iter().position(|g| *g == key).unwrap();
                assert!(cell / 9 < door - 35, "the key lies before its door");
            }
        }
    }

    #[test]
    fn a_tree_has_branches_and_a_chain_has_none() {
        let branching = |shape| {
            let mut env = task(&[("shape", shape), ("rooms", "6"), ("num_levels", "0")]);
            (0..50)
                .filter(|level| {
                    env.enter(*level);
                    let mut doors = [0; 6];
                    for door in 54..59 {
                        (0..4).filter_map(|d| env.beside(door, d)).for_each(|c| doors[c / 9] += 1);
                    }
                    assert_eq!(doors.iter().sum::<usize>(), 10);
                    doors.iter().any(|d| *d > 2)
                })
                .count()
        };
        assert_eq!(branching("chain"), 0);
        assert!(branching("tree") > 25, "{}", branching("tree"));
    }

    #[test]
    fn its_graph_holds_the_states_that_can_be_reached() {
        let mut rng = stream(2, Purpose::Check, 0);
        for level in 0..20 {
            let mut env = task(&[("rooms", "2"), ("size", "2"), ("num_levels", "0")]);
            env.enter(level);
            let graph = env.state_graph().unwrap();
            // Without the key: the other three cells of the first room. With it: both rooms and the door.
            assert_eq!(graph.len(), 3 + 9);
            // A path of three cells, of which both ends lead to the key, two squares, and the door with its two sides.
            let edges: usize = graph.iter().map(Vec::len).sum::<usize>() / 2;
            assert_eq!(edges, 2 + 4 + 4 + 2 + 2);
            let measured = gromov::of_graph(&graph, &mut rng).unwrap();
            assert!(measured.exact && measured.delta == 1.0, "{measured:?}");
        }
    }

    #[test]
    fn training_and_held_out_levels_are_disjoint() {
        let layouts = |levels: &str| -> BTreeSet<Vec<usize>> {
            let mut env = task(&[("levels", levels), ("num_levels", "0")]);
            let first = env.options.range().start;
            let layout = |env: &mut KeyDoor, level| {
                env.enter(level);
                [&env.tile_of[..], &env.gain, &[env.start, env.goal]].concat()
            };
            (first..first + 200).map(|level| layout(&mut env, level)).collect()
        };
        let (train, test) = (layouts("train"), layouts("test"));
        assert_eq!((train.len(), test.len()), (200, 200), "levels differ");
        assert!(train.is_disjoint(&test));
        let mut env = task(&[("num_levels", "3")]);
        let (mut rng, mut played) = (stream(3, Purpose::Check, 0), BTreeSet::new());
        for _ in 0..100 {
            env.reset(&mut rng, &mut [0.0; 201]);
            played.insert(env.level);
        }
        assert_eq!(played, BTreeSet::from([0, 1, 2]));
        let mut state = State::new();
        env.save(&mut state);
        assert!(
            task(&[("levels", "test")]).load(&state).is_err(),
            "a training level is loaded into the test"
        );
    }

    #[test]
    fn states_that_cannot_be_are_refused() {
        let mut env = task(&[]);
        let key = env.gain.iter().position(|g| *g == 1).unwrap() as u64;
        for (cell, held, part) in [
            (39, 0, "cell 39 of 39"),
            (0, 8, "keys 0b1000 of 3"),
            (36, 0b110, "cannot be reached without its key"),
            (key, 0b110, "cannot be reached without its key"),
        ] {
            let mut state = State::new();
            state.put_u64("state", &[0, cell, held, 1]);
            let error = env.load(&state).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_view_is_centred_on_the_agent() {
        let mut env = task(&[("rooms", "2"), ("size", "2"), ("view", "5")]);
        let mut obs = vec![f32::NAN; 103];
        // A level whose second room is to the east of the first; its door and what lies around are then placed by hand.
        let level = (0..200).find(|level| {
            env.enter(*level);
            env.extent == [1, 2] && env.tile_of[4] > env.tile_of[0]
        });
        assert!(level.is_some());
        let (old, new) = (env.tile_of[8], env.tile_of[0] + 2);
        (env.tiles[old], env.cell_of[old]) = (1.0, NONE);
        (env.tiles[new], env.cell_of[new], env.tile_of[8]) = (0.0, 8, new);
        env.gain.fill(0);
        (env.cell, env.gain[2], env.goal) = (1, 1, 7);
        env.observe(&mut obs);
        let plane = |obs: &[f32], i: usize| -> Vec<String> {
            let row = |row: &[f32]| row.iter().map(|x| if *x > 0.0 { '#' } else { '.' }).collect();
            obs[25 * i..25 * (i + 1)].chunks(5).map(row).collect()
        };
        assert_eq!(plane(&obs, 0), ["#####", "#####", "#....", "#..#.", "#####"]);
        assert_eq!(plane(&obs, 1), [".....", ".....", "...#.", ".....", "....."]);
        assert_eq!(plane(&obs, 2), [".....", ".....", ".....", ".#...", "....."]);
        assert_eq!(plane(&obs, 3), [".....", ".....", ".....", ".....", "....."], "out of sight");
        assert_eq!(obs[100..], [0.0, 1.0 / 6.0, 3.0 / 6.0]);
        let (mut rng, mut reward) = (stream(4, Purpose::Check, 0), [0.0]);
        // South, west onto the key, back and through the door.
        for action in [2.0, 3.0, 1.0, 0.0, 1.0] {
            assert!(!env.step(&[action], &mut rng, &mut obs, &mut reward));
        }
        assert_eq!((env.cell, obs[100]), (8, 1.0));
        assert!(obs[25..75].iter().all(|x| *x == 0.0), "neither key nor locked door is left");
        assert_eq!(plane(&obs, 3)[3], "....#");
    }

    #[test]
    fn bad_options_are_one_clear_error_each() {
        let error = |key, value| KeyDoorOptions::given(ID, &[(key, value)]).unwrap_err().to_string();
        for (key, value, part) in [
            ("rooms", "1", "'rooms' takes a whole number from 2 to 8"),
            ("size", "9", "'size' takes a whole number from 2 to 8"),
            ("shape", "ring", "'shape' takes chain or tree"),
            ("view", "4", "'view' takes an odd number from 1 to 31, not '4'"),
            ("keys", "2", "no option 'keys'"),
        ] {
            assert!(error(key, value).contains(part), "{}", error(key, value));
        }
    }
}
