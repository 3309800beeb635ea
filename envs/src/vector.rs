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

/// One environment with what belongs to it alone: its stream and its running episode.
struct Copy {
    env: Box<dyn Env>,
    rng: Rng,
    returns: Vec<f64>,
    length: usize,
    /// Action in `f64`, clipped to the action space.
    action: Vec<f64>,
    finished: Option<Episode>,
}

/// Copies of one environment, stepped together. Rows are copies; a joint observation holds all agents.
///
/// Results do not depend on the number of threads: each copy has its own stream and its own rows.
pub struct VecEnv {
    spec: Spec,
    copies: Vec<Copy>,
    pool: Option<rayon::ThreadPool>,
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
            })
            .collect();
        let n = copies.len();
        // A pool that cannot start (no threads left) costs speed, never a result.
        let threads = threads.min(n);
        let pool = (threads > 1)
            .then(|| rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok())
            .flatten();
        let mut envs = Self {
            pool,
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

    /// Starts a new episode in every copy.
    pub fn reset(&mut self) {
        let obs_len = self.spec.obs_len();
        for (copy, obs) in self.copies.iter_mut().zip(self.obs.chunks_mut(obs_len)) {
            copy.reset(obs);
        }
    }

    /// Steps every copy with its row of `actions`, `[N, action_len]`, unclipped. Copies whose episode ends are
    /// reset at once: [`Self::obs`] then holds the new episode's first observation and
    /// [`Self::final_obs`] the old one's last.
    pub fn step(&mut self, actions: &[f32]) {
        let (obs_len, action_len) = (self.spec.obs_len(), self.spec.action_len());
        let agents = self.spec.agents.len();
        let n = self.copies.len();
        debug_assert_eq!(actions.len(), n * action_len);
        let spec = &self.spec;
        let step_row = |(i, row): (usize, Row)| {
            let action = &actions[i * action_len..(i + 1) * action_len];
            let step = self.steps + i as u64 + 1;
            row.copy.step(i, step, action, spec, row.obs, row.final_obs, row.rewards, row.ended);
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
}

impl Copy {
    fn reset(&mut self, obs: &mut [f32]) {
        self.env.reset(&mut self.rng, obs);
        self.returns.fill(0.0);
        self.length = 0;
    }

    fn step(
        &mut self,
        index: usize,
        step: u64,
        action: &[f32],
        spec: &Spec,
        obs: &mut [f32],
        final_obs: &mut [f32],
        rewards: &mut [f64],
        (terminated, truncated): (&mut bool, &mut bool),
    ) {
        spec.clip(action, &mut self.action);
        *terminated = self.env.step(&self.action, &mut self.rng, obs, rewards);
        self.length += 1;
        self.returns.iter_mut().zip(&*rewards).for_each(|(sum, r)| *sum += r);
        // When both happen, terminated wins: there is nothing to bootstrap from.
        *truncated = !*terminated && spec.max_steps.is_some_and(|limit| self.length >= limit);
        if *terminated || *truncated {
            final_obs.copy_from_slice(obs);
            self.finished = Some(Episode {
                copy: index,
                step,
                returns: self.returns.clone(),
                length: self.length,
                terminated: *terminated,
            });
            self.reset(obs);
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
