//! Many copies of one environment, stepped together.
//!
//! [`VecEnv`] is the one place for time limits, automatic resets and episode statistics.
//! It resets in the same step in which an episode ends, and keeps the observation that the
//! episode ended with: agents bootstrap from it when the episode was only cut short by time.

use rayon::prelude::*;

use crate::rng::{self, Purpose, Rng};
use crate::{Env, Spec, State, StateError};

/// A finished episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// Environment copy that it ran in.
    pub copy: usize,
    /// Steps of all copies taken when it ended, its last one included.
    pub step: u64,
    /// Undiscounted return of each agent.
    pub returns: Vec<f64>,
    /// Length in steps.
    pub length: usize,
    /// Whether the task ended it (otherwise the time limit did).
    pub terminated: bool,
}

/// What becomes of a copy whose episode has ended, by Gymnasium's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Autoreset {
    /// It is reset in the same step, and the last observation is kept apart: what agents expect.
    #[default]
    SameStep,
    /// The next step resets it, whatever its action, and pays nothing.
    NextStep,
    /// Nothing: [`VecEnv::reset_where`] is the caller's to call.
    Disabled,
}

/// One environment with what belongs to it alone: its stream and its running episode.
struct Copy {
    env: Box<dyn Env>,
    rng: Rng,
    returns: Vec<f64>,
    length: usize,
    /// Action in `f64`, clipped to the action space.
    action: Vec<f64>,
    finished: Option<Episode>,
    /// The episode has ended and the next has not begun; never after a step of [`Autoreset::SameStep`].
    over: bool,
}

/// Copies of one environment, stepped together. Rows are copies; a joint observation holds all agents.
///
/// Results do not depend on the number of threads: each copy has its own stream and its own rows.
pub struct VecEnv {
    spec: Spec,
    copies: Vec<Copy>,
    bounds: Option<Vec<(f64, f64)>>,
    pool: Option<rayon::ThreadPool>,
    autoreset: Autoreset,
    steps: u64,
    obs: Vec<f32>,
    final_obs: Vec<f32>,
    rewards: Vec<f64>,
    terminated: Vec<bool>,
    truncated: Vec<bool>,
    episodes: Vec<Episode>,
}

impl VecEnv {
    /// `copies` environments (at least one) made by `make` and reset; copy i draws from stream
    /// (`seed`, `purpose`, i). With `threads` > 1 the copies are stepped by that many threads.
    pub fn new(
        make: &dyn Fn() -> Box<dyn Env>,
        copies: usize,
        seed: u64,
        purpose: Purpose,
        threads: usize,
    ) -> Self {
        let first = make();
        let spec = first.spec().clone();
        let clips = first.clips_actions();
        let agents = spec.agents.len();
        let envs = std::iter::once(first).chain(std::iter::repeat_with(make)).take(copies.max(1));
        let copies: Vec<Copy> = envs
            .enumerate()
            .map(|(i, env)| Copy {
                env,
                rng: rng::stream(seed, purpose, i as u64),
                returns: vec![0.0; agents],
                length: 0,
                action: vec![0.0; spec.action_len()],
                finished: None,
                over: false,
            })
            .collect();
        let n = copies.len();
        // A pool that cannot start (no threads left) costs speed, never a result.
        let threads = threads.min(n);
        let pool = (threads > 1)
            .then(|| rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok())
            .flatten();
        let bounds = (!clips).then(|| spec.agents.iter().flat_map(|a| a.action.bounds()).collect());
        let mut envs = Self {
            bounds,
            pool,
            autoreset: Autoreset::SameStep,
            steps: 0,
            obs: vec![0.0; n * spec.obs_len()],
            final_obs: vec![0.0; n * spec.obs_len()],
            rewards: vec![0.0; n * agents],
            terminated: vec![false; n],
            truncated: vec![false; n],
            episodes: Vec::new(),
            copies,
            spec,
        };
        envs.reset();
        envs
    }

    /// Lets copies whose episode has ended do as `mode` says from now on.
    pub fn set_autoreset(&mut self, mode: Autoreset) {
        self.autoreset = mode;
    }

    /// Sets the time limit in steps, in the place of the spec's.
    pub fn set_max_steps(&mut self, limit: Option<usize>) {
        self.spec.max_steps = limit;
    }

    /// Lets copy `i` draw from `rng` from now on.
    pub fn set_rng(&mut self, i: usize, rng: Rng) {
        self.copies[i].rng = rng;
    }

    /// Starts a new episode in every copy.
    pub fn reset(&mut self) {
        self.reset_where(|_| true);
    }

    /// Starts a new episode in every copy i of `which(i)`.
    pub fn reset_where(&mut self, which: impl Fn(usize) -> bool) {
        let rows = self.copies.iter_mut().zip(self.obs.chunks_mut(self.spec.obs_len())).enumerate();
        rows.filter(|(i, _)| which(*i)).for_each(|(_, (copy, obs))| copy.reset(obs));
    }

    /// Steps every copy with its row of `actions`, `[N, action_len]`, unclipped. Copies whose episode ends are
    /// reset at once, unless [`Self::set_autoreset`] said otherwise: [`Self::obs`] then holds the new episode's
    /// first observation and [`Self::final_obs`] the old one's last.
    pub fn step(&mut self, actions: &[f32]) {
        let (obs_len, action_len) = (self.spec.obs_len(), self.spec.action_len());
        let agents = self.spec.agents.len();
        let n = self.copies.len();
        debug_assert_eq!(actions.len(), n * action_len);
        let (bounds, max_steps, mode) = (self.bounds.as_deref(), self.spec.max_steps, self.autoreset);
        let step_row = |(i, row): (usize, Row)| {
            if mode == Autoreset::NextStep && row.copy.over {
                row.reset();
                return;
            }
            let action = &actions[i * action_len..(i + 1) * action_len];
            let step = self.steps + i as u64 + 1;
            let Row { copy, obs, final_obs, rewards, ended } = row;
            copy.step(i, step, action, bounds, max_steps, obs, final_obs, rewards, ended);
            if copy.over && mode == Autoreset::SameStep {
                copy.reset(obs);
            }
        };
        // `final_obs` is written only where an episode ends.
        match &self.pool {
            None => self
                .copies
                .iter_mut()
                .zip(self.obs.chunks_mut(obs_len))
                .zip(self.final_obs.chunks_mut(obs_len))
                .zip(self.rewards.chunks_mut(agents))
                .zip(self.terminated.iter_mut().zip(self.truncated.iter_mut()))
                .map(Row::new)
                .enumerate()
                .for_each(step_row),
            Some(pool) => {
                // Chunks of rows, so that a cheap environment pays for one hand-over, not for N.
                let min = n.div_ceil(pool.current_num_threads());
                let rows = self
                    .copies
                    .par_iter_mut()
                    .zip(self.obs.par_chunks_mut(obs_len))
                    .zip(self.final_obs.par_chunks_mut(obs_len))
                    .zip(self.rewards.par_chunks_mut(agents))
                    .zip(self.terminated.par_iter_mut().zip(self.truncated.par_iter_mut()))
                    .map(Row::new)
                    .enumerate()
                    .with_min_len(min);
                pool.install(|| rows.for_each(step_row));
            }
        }
        self.steps += n as u64;
        self.episodes.extend(self.copies.iter_mut().filter_map(|c| c.finished.take()));
    }

    /// The task.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Times that the simulation of a copy ran away and was put back to its start.
    pub fn divergences(&self) -> u64 {
        self.copies.iter().map(|copy| copy.env.divergences()).sum()
    }

    /// Why the first copy that failed cannot go on, if one did.
    pub fn fault(&self) -> Option<&str> {
        self.copies.iter().find_map(|copy| copy.env.fault())
    }

    /// Copy `i`.
    pub fn env(&mut self, i: usize) -> &mut dyn Env {
        self.copies[i].env.as_mut()
    }

    /// Whether the episode of copy `i` has ended and its next has not begun.
    pub fn is_over(&self, i: usize) -> bool {
        self.copies[i].over
    }

    /// Number of copies, N.
    pub fn len(&self) -> usize {
        self.copies.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// Environment steps taken by all copies together.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Current observations, `[N, obs_len]`.
    pub fn obs(&self) -> &[f32] {
        &self.obs
    }

    /// Last observation of the episode that ended in each copy's latest ending, `[N, obs_len]`: meaningful where
    /// [`Self::terminated`] or [`Self::truncated`] is set.
    pub fn final_obs(&self) -> &[f32] {
        &self.final_obs
    }

    /// Rewards of the last step, `[N, agents]`.
    pub fn rewards(&self) -> &[f64] {
        &self.rewards
    }

    /// Copies whose task ended in the last step, `[N]`.
    pub fn terminated(&self) -> &[bool] {
        &self.terminated
    }

    /// Copies cut short by the time limit in the last step, `[N]`; never set together with
    /// [`Self::terminated`], which wins.
    pub fn truncated(&self) -> &[bool] {
        &self.truncated
    }

    /// Hands over the episodes finished since the last call, in order of their last step.
    pub fn take_episodes(&mut self) -> Vec<Episode> {
        std::mem::take(&mut self.episodes)
    }

    /// Saves every copy, its stream and its running episode. Take the finished episodes first.
    pub fn save(&self) -> State {
        let mut state = State::new();
        state.put_u64("steps", &[self.steps]);
        state.put_f32("obs", &self.obs);
        for (i, copy) in self.copies.iter().enumerate() {
            let mut s = State::new();
            copy.env.save(&mut s);
            let mut c = State::new();
            c.put_state("env", s);
            rng::save(&copy.rng, "rng", &mut c);
            c.put_f64("returns", &copy.returns);
            c.put_u64("length", &[copy.length as u64]);
            if copy.over {
                c.put_u64("over", &[1]);
            }
            state.put_state(&i.to_string(), c);
        }
        state
    }

    /// Restores what [`Self::save`] wrote into the same number of copies.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, state: &State) -> Result<(), StateError> {
        self.steps = state.u64("steps", 1)?[0];
        let obs_len = self.obs.len();
        self.obs.copy_from_slice(state.f32("obs", obs_len)?);
        for (i, copy) in self.copies.iter_mut().enumerate() {
            let c = state.state(&i.to_string());
            copy.env.load(&c.state("env"))?;
            copy.rng = rng::load("rng", &c)?;
            copy.returns = c.f64("returns", copy.returns.len())?.to_vec();
            copy.length = c.u64("length", 1)?[0] as usize;
            copy.over = c.contains("over");
        }
        self.episodes.clear();
        Ok(())
    }
}

/// What one copy reads and writes in a step.
struct Row<'a> {
    copy: &'a mut Copy,
    obs: &'a mut [f32],
    final_obs: &'a mut [f32],
    rewards: &'a mut [f64],
    ended: (&'a mut bool, &'a mut bool),
}

/// A copy, its observation, final observation and rewards, and whether it terminated or was truncated.
type Parts<'a> =
    ((((&'a mut Copy, &'a mut [f32]), &'a mut [f32]), &'a mut [f64]), (&'a mut bool, &'a mut bool));

impl<'a> Row<'a> {
    fn new(((((copy, obs), final_obs), rewards), ended): Parts<'a>) -> Self {
        Self { copy, obs, final_obs, rewards, ended }
    }

    /// A step that only starts the next episode.
    fn reset(self) {
        self.copy.reset(self.obs);
        self.rewards.fill(0.0);
        (*self.ended.0, *self.ended.1) = (false, false);
    }
}

impl Copy {
    fn reset(&mut self, obs: &mut [f32]) {
        self.env.reset(&mut self.rng, obs);
        self.returns.fill(0.0);
        self.length = 0;
        self.over = false;
    }

    fn step(
        &mut self,
        index: usize,
        step: u64,
        action: &[f32],
        bounds: Option<&[(f64, f64)]>,
        max_steps: Option<usize>,
        obs: &mut [f32],
        final_obs: &mut [f32],
        rewards: &mut [f64],
        (terminated, truncated): (&mut bool, &mut bool),
    ) {
        for (x, a) in self.action.iter_mut().zip(action) {
            *x = f64::from(*a);
        }
        for (x, (low, high)) in self.action.iter_mut().zip(bounds.into_iter().flatten()) {
            *x = x.clamp(*low, *high);
        }
        *terminated = self.env.step(&self.action, &mut self.rng, obs, rewards);
        self.length += 1;
        self.returns.iter_mut().zip(&*rewards).for_each(|(sum, r)| *sum += r);
        // When both happen, terminated wins: there is nothing to bootstrap from.
        let late = max_steps.is_some_and(|limit| self.length >= limit);
        *truncated = !*terminated && (late || self.env.truncated());
        self.over = *terminated || *truncated;
        if self.over {
            final_obs.copy_from_slice(obs);
            self.finished = Some(Episode {
                copy: index,
                step,
                returns: self.returns.clone(),
                length: self.length,
                terminated: *terminated,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Space;
    use rand::Rng as _;

    /// Counts its steps, adds noise to the reward, and terminates at a random count.
    struct Counter {
        spec: Spec,
        count: f64,
        end: f64,
    }

    impl Counter {
        fn boxed(max_steps: usize) -> Box<dyn Env> {
            let spec = Spec::single(
                "counter",
                Space::uniform(1, 0.0, 1e3),
                Space::uniform(1, -1.0, 1.0),
                Some(max_steps),
            );
            Box::new(Self { spec, count: 0.0, end: 0.0 })
        }
    }

    impl Env for Counter {
        fn spec(&self) -> &Spec {
            &self.spec
        }
        fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
            self.count = 0.0;
            self.end = f64::from(rng.next_u32() % 7 + 3);
            obs[0] = 0.0;
        }
        fn step(&mut self, action: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
            self.count += 1.0;
            obs[0] = self.count as f32;
            reward[0] = action[0] + f64::from(rng.next_u32() % 10);
            self.count >= self.end
        }
        fn save(&self, state: &mut State) {
            state.put_f64("state", &[self.count, self.end]);
        }
        fn load(&mut self, state: &State) -> Result<(), StateError> {
            [self.count, self.end] = state.f64_array("state")?;
            Ok(())
        }
    }

    fn run(envs: &mut VecEnv, steps: usize) -> (Vec<f32>, Vec<Episode>) {
        let mut seen = Vec::new();
        for t in 0..steps {
            let actions: Vec<f32> = (0..envs.len()).map(|i| (t + i) as f32 * 0.1 - 1.0).collect();
            envs.step(&actions);
            seen.extend_from_slice(envs.obs());
            seen.extend(envs.rewards().iter().map(|r| *r as f32));
        }
        (seen, envs.take_episodes())
    }

    #[test]
    fn threads_never_change_a_result() {
        let result =
            |threads| run(&mut VecEnv::new(&|| Counter::boxed(6), 13, 5, Purpose::Env, threads), 200);
        assert_eq!(result(1), result(2));
        assert_eq!(result(1), result(5));
    }

    #[test]
    fn the_time_limit_truncates_and_termination_wins() {
        let mut envs = VecEnv::new(&|| Counter::boxed(6), 8, 0, Purpose::Env, 1);
        let mut endings = [0, 0];
        for _ in 0..500 {
            let before: Vec<f32> = envs.obs().to_vec();
            envs.step(&[0.0; 8]);
            for i in 0..8 {
                let (terminated, truncated) = (envs.terminated()[i], envs.truncated()[i]);
                assert!(!(terminated && truncated));
                endings[0] += usize::from(terminated);
                endings[1] += usize::from(truncated);
                if terminated || truncated {
                    assert_eq!(envs.final_obs()[i], before[i] + 1.0, "the last observation is kept");
                    assert_eq!(envs.obs()[i], 0.0, "and the next episode has begun");
                } else {
                    assert_eq!(envs.obs()[i], before[i] + 1.0);
                }
            }
        }
        assert!(endings[0] > 100 && endings[1] > 100, "{endings:?}");
        for e in envs.take_episodes() {
            assert!(e.length <= 6 && (e.terminated || e.length == 6));
        }
    }

    #[test]
    fn a_copy_that_has_ended_waits_as_its_mode_says() {
        let new = |mode| {
            let mut envs = VecEnv::new(&|| Counter::boxed(6), 4, 2, Purpose::Env, 1);
            envs.set_autoreset(mode);
            envs
        };
        let (mut same, mut next, mut off) =
            (new(Autoreset::SameStep), new(Autoreset::NextStep), new(Autoreset::Disabled));
        let mut ended = 0;
        for _ in 0..200 {
            for envs in [&mut same, &mut next, &mut off] {
                envs.step(&[0.0; 4]);
            }
            for i in 0..4 {
                assert_eq!(next.is_over(i), next.terminated()[i] || next.truncated()[i]);
                if next.is_over(i) {
                    ended += 1;
                    assert_eq!(next.obs()[i], next.final_obs()[i]);
                }
            }
            // A step for those that wait, in which the others do not move.
            let over: Vec<bool> = (0..4).map(|i| next.is_over(i)).collect();
            if over.iter().any(|o| *o) {
                let mut held = new(Autoreset::NextStep);
                held.load(&next.save()).unwrap();
                held.step(&[0.0; 4]);
                for i in (0..4).filter(|i| over[*i]) {
                    assert_eq!((held.obs()[i], held.rewards()[i], held.is_over(i)), (0.0, 0.0, false));
                }
                assert_eq!(off.obs(), next.obs());
                off.reset_where(|i| over[i]);
                next.reset_where(|i| over[i]);
            }
            assert_eq!((off.obs(), next.obs()), (same.obs(), same.obs()));
            assert_eq!((off.rewards(), next.rewards()), (same.rewards(), same.rewards()));
        }
        assert!(ended > 100, "{ended}");
    }

    #[test]
    fn actions_are_clipped_to_the_box() {
        let mut envs = VecEnv::new(&|| Counter::boxed(6), 1, 0, Purpose::Env, 1);
        envs.step(&[0.5]);
        let inside = envs.rewards()[0].fract();
        envs.step(&[7.0]);
        assert_eq!((inside, envs.rewards()[0].fract()), (0.5, 0.0));
    }

    #[test]
    fn a_loaded_copy_goes_on_bit_for_bit() {
        let new = || VecEnv::new(&|| Counter::boxed(6), 4, 9, Purpose::Env, 1);
        let mut envs = new();
        run(&mut envs, 57);
        let state = envs.save();
        let mut other = new();
        other.load(&state).unwrap();
        assert_eq!(run(&mut envs, 100), run(&mut other, 100));
        assert!(VecEnv::new(&|| Counter::boxed(6), 5, 9, Purpose::Env, 1).load(&state).is_err());
    }
}
