//! `hierarchy/maze`: find the way through a maze whose loops are a dial.
//!
//! A maze of n × n cells. A depth-first walk from a random cell carves a perfect maze: a spanning tree of the grid. Of
//! the (n − 1)² walls that are left between cells the share `loops` is then opened: 0 leaves the tree, 1 an open
//! grid, between them lie braided mazes.
//!
//! - Levels: a number names the layout, the goal and the start. Training levels are 0, 1, …; the held-out ones begin
//!   at 2³².
//! - Start: a cell at `distance` steps from the goal by the shortest way, or the farthest where none is so far; any
//!   other cell for `distance=0`. Goals are anywhere.
//! - Action: north, east, south, west. Walls stop a move.
//! - Observation: the `view` × `view` tiles around the agent as two planes, [walls, goal], where a cell, a wall and
//!   a post between walls are a tile each and beyond the maze all is wall; then, with `compass`, the goal's rows and
//!   columns from here over n − 1.
//! - Reward: at the goal the length of the shortest way over the steps taken; 0 before. Thus the optimum is 1
//!   on every level and for every `loops`. It is the success weighted by path length of P. Anderson et al., *On
//!   evaluation of embodied navigation agents*, 2018.
//! - Terminates at the goal; 4 n² steps.
//!
//! Comparator `oracle`: the shortest way, return 1.

use std::ops::Range;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use super::{Count, Levels, Odd, Several, numbers};
use crate::options::{Fraction, Options as _, options};
use crate::rng::{Purpose, stream};
use crate::scene::{Paint, ball, line, slab};
use crate::{Env, OptionError, Rng, Scene, Space, Spec, State, StateError};

options! {
    /// What `hierarchy/maze` leaves to its user.
    pub struct MazeOptions {
        /// Cells along a side, n.
        size: Several = Several(8),
        /// Share of the walls of the perfect maze that are opened.
        loops: Fraction = Fraction(0.0),
        /// Tiles along a side of what is seen.
        view: Odd = Odd(5),
        /// Whether the direction of the goal is seen.
        compass: bool = true,
        /// Steps from the start to the goal; 0: any.
        distance: Count = Count(0),
        /// Levels to play.
        levels: Levels = Levels::Train,
        /// How many training levels there are; 0: no limit.
        num_levels: Count = Count(200),
        /// What the levels are drawn from.
        level_seed: Count = Count(0),
    }
}

impl MazeOptions {
    /// The options with the `given` keys and values.
    ///
    /// # Errors
    /// For an unknown option, a value that it does not take, and values that do not go together.
    pub fn given(id: &str, given: &[(&str, &str)]) -> Result<Self, OptionError> {
        let options = Self::of(id, given)?;
        let (n, distance) = (options.size.0, options.distance.0);
        if distance >= n * n {
            let why =
                format!("distance = {distance} exceeds {}, the longest way in {n} x {n} cells", n * n - 1);
            return Err(OptionError::Conflict { env: id.to_owned(), why });
        }
        Ok(options)
    }

    /// Numbers of the levels that are played.
    fn range(&self) -> Range<u64> {
        numbers(self.levels, self.num_levels)
    }
}

/// A cell that the search did not reach.
const FAR: usize = usize::MAX;

/// The task of this module.
pub struct Maze {
    spec: Spec,
    options: MazeOptions,
    /// Width of the border around the tiles, of which the agent sees at most so much.
    border: usize,
    /// Tiles in a row, with the border.
    width: usize,
    /// 1 for a wall, row by row.
    tiles: Vec<f32>,
    /// Steps from each cell to the goal.
    steps: Vec<usize>,
    /// Scratch: cells of a walk or a search.
    cells: Vec<usize>,
    /// Scratch: walls to open.
    closed: Vec<usize>,
    level: u64,
    goal: usize,
    start: usize,
    cell: usize,
    taken: u64,
}

impl Maze {
    /// The task with these options, as [`MazeOptions::given`] checked them.
    pub fn new(id: &str, options: MazeOptions) -> Self {
        let (n, view) = (options.size.0, options.view.0);
        let border = view / 2;
        let width = 2 * n + 1 + 2 * border;
        let planes = 2 * view * view;
        let directions = if options.compass { 2 } else { 0 };
        let low = [vec![0.0; planes], vec![-1.0; directions]].concat();
        let obs = Space::Box { high: vec![1.0; low.len()], low };
        let spec = Spec {
            reward_threshold: Some(0.95),
            reward_range: (0.0, 1.0),
            ..Spec::single(id, obs, Space::Discrete(4), Some(4 * n * n))
        };
        let mut maze = Self {
            spec,
            border,
            width,
            tiles: vec![1.0; width * width],
            steps: vec![FAR; n * n],
            cells: Vec::with_capacity(n * n),
            closed: Vec::with_capacity(2 * n * n),
            level: 0,
            goal: 0,
            start: 0,
            cell: 0,
            taken: 0,
            options,
        };
        maze.enter(maze.options.range().start);
        maze
    }

    fn tile(&self, cell: usize) -> usize {
        let n = self.options.size.0;
        (2 * (cell / n) + 1 + self.border) * self.width + 2 * (cell % n) + 1 + self.border
    }

    /// The cell next to another in one of four directions, and the tile between them.
    fn next(&self, cell: usize, direction: usize) -> Option<(usize, usize)> {
        let (n, at) = (self.options.size.0, self.tile(cell));
        match direction {
            0 => (cell >= n).then(|| (cell - n, at - self.width)),
            1 => (cell % n + 1 < n).then(|| (cell + 1, at + 1)),
            2 => (cell + n < n * n).then(|| (cell + n, at + self.width)),
            _ => (!cell.is_multiple_of(n)).then(|| (cell - 1, at - 1)),
        }
    }

    /// The cell that a move leads to, if no wall stops it.
    fn moved(&self, cell: usize, direction: usize) -> Option<usize> {
        self.next(cell, direction).filter(|(_, between)| self.tiles[*between] == 0.0).map(|(cell, _)| cell)
    }

    /// Builds a level and goes to its start.
    fn enter(&mut self, level: u64) {
        let cells = self.steps.len();
        let mut rng = stream(self.options.level_seed.0 as u64, Purpose::Level, level);
        self.carve(&mut rng);
        self.open(&mut rng);
        self.goal = rng.random_range(0..cells);
        self.search();
        let farthest = self.steps.iter().copied().max().unwrap_or(0);
        let wanted = self.options.distance.0.min(farthest);
        let fits = |steps: usize| if wanted == 0 { steps > 0 } else { steps == wanted };
        let candidates = self.steps.iter().filter(|s| fits(**s)).count();
        let chosen = rng.random_range(0..candidates);
        let mut fitting = (0..cells).filter(|c| fits(self.steps[*c]));
        self.start = fitting.nth(chosen).unwrap_or(self.goal);
        (self.level, self.cell, self.taken) = (level, self.start, 0);
    }

    /// A perfect maze, by a depth-first walk.
    fn carve(&mut self, rng: &mut Rng) {
        self.tiles.fill(1.0);
        self.cells.clear();
        let first = rng.random_range(0..self.steps.len());
        let tile = self.tile(first);
        self.tiles[tile] = 0.0;
        self.cells.push(first);
        while let Some(&cell) = self.cells.last() {
            let (mut ways, mut count) = ([(0, 0); 4], 0);
            for way in (0..4).filter_map(|d| self.next(cell, d)) {
                if self.tiles[self.tile(way.0)] > 0.0 {
                    ways[count] = way;
                    count += 1;
                }
            }
            if count == 0 {
                self.cells.pop();
                continue;
            }
            let (next, between) = ways[rng.random_range(0..count)];
            let tile = self.tile(next);
            (self.tiles[between], self.tiles[tile]) = (0.0, 0.0);
            self.cells.push(next);
        }
    }

    /// Opens the share `loops` of the walls between cells.
    fn open(&mut self, rng: &mut Rng) {
        if self.options.loops.0 == 0.0 {
            return;
        }
        self.closed.clear();
        for cell in 0..self.steps.len() {
            for direction in [1, 2] {
                match self.next(cell, direction) {
                    Some((_, between)) if self.tiles[between] > 0.0 => self.closed.push(between),
                    _ => {}
                }
            }
        }
        let count = (self.options.loops.0 * self.closed.len() as f64).round() as usize;
        for between in self.closed.partial_shuffle(rng, count).0 {
            self.tiles[*between] = 0.0;
        }
    }

    /// Steps from every cell to the goal, breadth first.
    fn search(&mut self) {
        self.steps.fill(FAR);
        self.cells.clear();
        self.steps[self.goal] = 0;
        self.cells.push(self.goal);
        let mut done = 0;
        while let Some(&cell) = self.cells.get(done) {
            done += 1;
            for direction in 0..4 {
                match self.moved(cell, direction) {
                    Some(next) if self.steps[next] == FAR => {
                        self.steps[next] = self.steps[cell] + 1;
                        self.cells.push(next);
                    }
                    _ => {}
                }
            }
        }
    }

    fn observe(&self, obs: &mut [f32]) {
        let (n, view) = (self.options.size.0, self.options.view.0);
        let corner = self.tile(self.cell) - self.border * (self.width + 1);
        let (walls, rest) = obs.split_at_mut(view * view);
        let (goals, compass) = rest.split_at_mut(view * view);
        for (row, seen) in walls.chunks_exact_mut(view).enumerate() {
            let from = corner + row * self.width;
            seen.copy_from_slice(&self.tiles[from..from + view]);
        }
        let rows = (self.goal / n) as isize - (self.cell / n) as isize;
        let columns = (self.goal % n) as isize - (self.cell % n) as isize;
        goals.fill(0.0);
        // A cell is two tiles from the next.
        let reach = self.border as isize;
        if (2 * rows).abs() <= reach && (2 * columns).abs() <= reach {
            goals[((2 * rows + reach) * view as isize + 2 * columns + reach) as usize] = 1.0;
        }
        if let [r, c] = compass {
            let scale = (n - 1) as f32;
            (*r, *c) = (rows as f32 / scale, columns as f32 / scale);
        }
    }
}

impl Env for Maze {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.enter(rng.random_range(self.options.range()));
        self.observe(obs);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        self.cell = self.moved(self.cell, action[0] as usize).unwrap_or(self.cell);
        self.taken += 1;
        let over = self.cell == self.goal;
        reward[0] = if over { self.steps[self.start] as f64 / self.taken as f64 } else { 0.0 };
        self.observe(obs);
        over
    }

    fn save(&self, state: &mut State) {
        state.put_u64("state", &[self.level, self.cell as u64, self.taken]);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let values = state.u64("state", 3)?;
        let (level, cell, taken) = (values[0], values[1], values[2]);
        let invalid = |why: String| Err(StateError::Invalid { name: "state".to_owned(), why });
        if !self.options.range().contains(&level) {
            return invalid(format!("level {level} is not among those that are played"));
        }
        if cell >= self.steps.len() as u64 {
            return invalid(format!("cell {cell} of {}", self.steps.len()));
        }
        self.enter(level);
        (self.cell, self.taken) = (cell as usize, taken);
        Ok(())
    }

    fn comparators(&self) -> &'static [&'static str] {
        &["oracle"]
    }

    fn comparator_action(&self, name: &str, _: &mut Rng, action: &mut [f64]) -> bool {
        if name != "oracle" {
            return false;
        }
        let nearer =
            |d: &usize| self.moved(self.cell, *d).is_some_and(|c| self.steps[c] < self.steps[self.cell]);
        action[0] = (0..4).find(nearer).unwrap_or(0) as f64;
        true
    }

    /// The cells.
    fn state_graph(&self) -> Option<Vec<Vec<usize>>> {
        Some((0..self.steps.len()).map(|c| (0..4).filter_map(|d| self.moved(c, d)).collect()).collect())
    }

    fn scene(&self) -> Option<Scene> {
        let n = self.options.size.0;
        let at = |cell: usize| [(cell % n) as f64 + 0.5, -((cell / n) as f64 + 0.5)];
        let side = n as f64;
        let frame = [[0.0, 0.0], [side, 0.0], [side, -side], [0.0, -side], [0.0, 0.0]];
        let mut shapes = vec![slab(at(self.goal), [0.4; 2], 0.0, Paint::Goal), line(frame, Paint::Still)];
        for cell in 0..n * n {
            let [x, z] = at(cell);
            for (direction, ends) in
                [(1, [[x + 0.5, z - 0.5], [x + 0.5, z + 0.5]]), (2, [[x - 0.5, z - 0.5], [x + 0.5, z - 0.5]])]
            {
                if self.next(cell, direction).is_some() && self.moved(cell, direction).is_none() {
                    shapes.push(line(ends, Paint::Still));
                }
            }
        }
        shapes.push(ball(at(self.cell), 0.25, Paint::Body));
        Some(Scene::side([side / 2.0, -side / 2.0], side + 1.0, side + 1.0, 0.1, shapes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gromov;
    use std::collections::BTreeSet;

    const ID: &str = "hierarchy/maze";

    fn maze(given: &[(&str, &str)]) -> Maze {
        Maze::new(ID, MazeOptions::given(ID, given).unwrap())
    }

    fn edges(maze: &Maze) -> usize {
        maze.state_graph().unwrap().iter().map(Vec::len).sum::<usize>() / 2
    }

    #[test]
    fn loops_turn_a_tree_into_a_grid() {
        let mut rng = stream(0, Purpose::Check, 0);
        // 63 edges of a spanning tree, and the share of the 49 walls.
        for (loops, count) in [("0", 63), ("0.1", 68), ("0.5", 88), ("1", 112)] {
            let mut env = maze(&[("loops", loops)]);
            for level in 0..20 {
                env.enter(level);
                assert_eq!(edges(&env), count);
                let measured = gromov::of_graph(&env.state_graph().unwrap(), &mut rng).unwrap();
                assert!(measured.exact);
                match loops {
                    "0" => assert_eq!(measured.delta, 0.0),
                    "1" => assert_eq!((measured.delta, measured.relative()), (7.0, 1.0)),
                    _ => assert!(measured.delta > 0.0),
                }
            }
        }
    }

    #[test]
    fn the_oracle_takes_the_shortest_way_on_every_level() {
        let mut rng = stream(1, Purpose::Check, 0);
        let (mut obs, mut action, mut reward) = (vec![0.0; 52], [0.0], [0.0]);
        for (loops, levels) in [("0", "train"), ("0", "test"), ("0.3", "test"), ("1", "train")] {
            let mut env = maze(&[("loops", loops), ("levels", levels), ("distance", "9")]);
            for _ in 0..50 {
                env.reset(&mut rng, &mut obs);
                // A second search, from the graph.
                let all = gromov::distances(&env.state_graph().unwrap(), &[env.start]);
                let shortest = all[env.goal];
                let farthest = *env.steps.iter().max().unwrap() as f64;
                assert_eq!(shortest, farthest.min(9.0));
                let mut count = 0.0;
                loop {
                    assert!(env.comparator_action("oracle", &mut rng, &mut action));
                    count += 1.0;
                    if env.step(&action, &mut rng, &mut obs, &mut reward) {
                        break;
                    }
                    assert_eq!(reward[0], 0.0);
                }
                assert_eq!((reward[0], count), (1.0, shortest));
            }
        }
    }

    #[test]
    fn a_detour_costs_its_share() {
        let mut env = maze(&[("distance", "3")]);
        let (mut rng, mut obs) = (stream(2, Purpose::Check, 0), vec![0.0; 52]);
        let (mut action, mut reward) = ([0.0], [0.0]);
        env.reset(&mut rng, &mut obs);
        let wall = (0..4).find(|d| env.moved(env.cell, *d).is_none()).unwrap();
        let before = env.cell;
        env.step(&[wall as f64], &mut rng, &mut obs, &mut reward);
        assert_eq!(env.cell, before, "a wall stops a move");
        while !env.comparator_action("oracle", &mut rng, &mut action)
            || !env.step(&action, &mut rng, &mut obs, &mut reward)
        {}
        assert_eq!(reward[0], 3.0 / 4.0);
    }

    #[test]
    fn training_and_held_out_levels_are_disjoint() {
        let layouts = |levels: &str| -> BTreeSet<Vec<u32>> {
            let mut env = maze(&[("levels", levels), ("num_levels", "0")]);
            let first = env.options.range().start;
            let layout = |env: &mut Maze, level| {
                env.enter(level);
                env.tiles.iter().map(|t| t.to_bits()).collect()
            };
            (first..first + 200).map(|level| layout(&mut env, level)).collect()
        };
        let (train, test) = (layouts("train"), layouts("test"));
        assert_eq!((train.len(), test.len()), (200, 200), "levels differ");
        assert!(train.is_disjoint(&test));

        let mut env = maze(&[("num_levels", "3")]);
        let mut rng = stream(3, Purpose::Check, 0);
        let mut played = BTreeSet::new();
        for _ in 0..100 {
            env.reset(&mut rng, &mut [0.0; 52]);
            played.insert(env.level);
        }
        assert_eq!(played, BTreeSet::from([0, 1, 2]));
        let mut state = State::new();
        env.save(&mut state);
        assert!(
            maze(&[("levels", "test")]).load(&state).is_err(),
            "a training level is loaded into the test"
        );
    }

    #[test]
    fn the_view_is_centred_on_the_agent() {
        let mut env = maze(&[("distance", "1"), ("loops", "1"), ("view", "5")]);
        let mut obs = vec![f32::NAN; 52];
        env.enter(4);
        env.cell = 0;
        env.goal = 1;
        env.observe(&mut obs);
        // The corner of an open maze: two tiles of wall above and left, of which the outer one is beyond; posts between cells.
        let walls: Vec<String> = obs[..25]
            .chunks(5)
            .map(|row| row.iter().map(|x| if *x > 0.0 { '#' } else { '.' }).collect())
            .collect();
        assert_eq!(walls, ["#####", "#####", "##...", "##.#.", "##..."]);
        let goals: Vec<usize> = (0..25).filter(|i| obs[25 + i] > 0.0).collect();
        assert_eq!(goals, [2 * 5 + 4], "two tiles to the right");
        assert_eq!(obs[50..], [0.0, 1.0 / 7.0]);
    }

    #[test]
    fn bad_options_are_one_clear_error_each() {
        let error = |key, value| MazeOptions::given(ID, &[(key, value)]).unwrap_err().to_string();
        for (key, value, part) in [
            ("size", "0", "'size' takes a whole number from 2 to 64"),
            ("view", "4", "'view' takes an odd number from 1 to 31, not '4'"),
            ("loops", "1.5", "'loops' takes a number from 0 to 1"),
            ("loops", "-0.1", "'loops' takes a number from 0 to 1"),
            ("levels", "all", "'levels' takes train or test"),
            ("distance", "64", "distance = 64 exceeds 63"),
            ("num_levels", "-1", "'num_levels' takes"),
        ] {
            assert!(error(key, value).contains(part), "{}", error(key, value));
        }
    }
}
