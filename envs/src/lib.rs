//! Environments for reinforcement learning, written as plain `f64` physics.
//!
//! An environment author writes dynamics and nothing else ([`Env`]): no batches, no time limits, no
//! tensors. [`VecEnv`] adds copies, time limits, automatic resets and episode statistics; [`check`]
//! holds the conformance checks that every registered task passes (run them on your own too).
//!
//! To add a task: one file that implements [`Env`], and one line in [`REGISTRY`]. A task may have [`options`].
//!
//! # Several agents
//!
//! Every task is one for several agents; most have one. What an agent sees and does is its own ([`AgentSpec`], sizes may
//! differ); joint slices hold the agents one after another; each agent has its own reward. A task may offer more, all of
//! it a function of the present state, all of it declared in [`Spec`], gathered by [`VecEnv`] and covered by [`check`]:
//!
//! | what | declared by | written by | for |
//! |---|---|---|---|
//! | which choices are allowed | [`Spec::masked`] | [`Env::mask`] | the heads of discrete and hybrid actions |
//! | the whole state | [`Spec::state_len`] | [`Env::central_state`] | a central critic |
//! | who is near whom | [`Spec::graph`] | [`Env::graph`] | a critic or actor that passes messages |
//! | what happened beside the rewards | | [`Env::info`] | tables |
//! | policies to compare with | | [`Env::comparators`] | tables ([`compare`]) |

pub mod check;
pub mod classic;
pub mod compare;
pub mod gromov;
pub mod hierarchy;
pub mod mujoco;
pub mod options;
pub mod particle;
pub mod pen;
pub mod probe;
pub mod rng;
pub mod scene;
pub mod space;
pub mod state;
pub mod uav;
pub mod vector;

use options::Options as _;
pub use options::{EnvOption, OptionError};
pub use rng::{Purpose, Rng};
pub use scene::{Picture, Scene};
pub use space::Space;
pub use state::{State, StateError};
pub use vector::{Autoreset, Episode, VecEnv};

/// What one agent of a task sees and does.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSpec {
    /// Name, as in PettingZoo (`agent_0`); plain tasks have one agent called `agent`.
    pub name: String,
    /// Observation space, a [`Space::Box`] whose bounds may be infinite.
    pub obs: Space,
    /// Action space.
    pub action: Space,
}

/// What a task is, in numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Registered name, for example `Pendulum-v1`.
    pub id: String,
    /// One entry an agent; plain tasks have one.
    pub agents: Vec<AgentSpec>,
    /// Time limit in steps, applied by [`VecEnv`], never by the task; `None` means endless.
    pub max_steps: Option<usize>,
    /// Mean return from which the task counts as solved, where its authors name one.
    pub reward_threshold: Option<f64>,
    /// Lowest and highest reward of one step of one agent; infinite where there is no bound.
    pub reward_range: (f64, f64),
    /// True for a task whose reward depends on the action before clipping; it then clips by itself.
    pub clips_actions: bool,
    /// Whether [`Env::mask`] may forbid a choice; where it is false every choice is always allowed.
    pub masked: bool,
    /// Numbers that [`Env::central_state`] writes; 0 for a task whose joint observation is its central state.
    pub state_len: usize,
    /// Shape of the graph of the agents, of a task that has one.
    pub graph: Option<GraphShape>,
}

/// Shape of a graph whose node i is agent i.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphShape {
    /// Numbers of a node.
    pub node_len: usize,
    /// Numbers of an edge.
    pub edge_len: usize,
}

/// A graph of n agents, to be written.
pub struct Graph<'a> {
    /// What is known of each agent, `[n, node_len]`, in a form that all agents share (observations need not).
    pub nodes: &'a mut [f32],
    /// Whether agent i hears agent j, `[n, n]`, at i n + j. Everyone hears itself.
    pub adjacency: &'a mut [bool],
    /// What is known of j from i, `[n, n, edge_len]`; zero where i does not hear j.
    pub edges: &'a mut [f32],
}

impl Spec {
    /// Spec of a task with a single agent.
    pub fn single(id: &str, obs: Space, action: Space, max_steps: Option<usize>) -> Self {
        let agents = vec![AgentSpec { name: "agent".to_owned(), obs, action }];
        Self {
            id: id.to_owned(),
            agents,
            max_steps,
            reward_threshold: None,
            reward_range: (f64::NEG_INFINITY, f64::INFINITY),
            clips_actions: false,
            masked: false,
            state_len: 0,
            graph: None,
        }
    }

    /// Numbers in one joint observation: all agents' observations one after another.
    pub fn obs_len(&self) -> usize {
        self.agents.iter().map(|a| a.obs.len()).sum()
    }

    /// Numbers in one joint action: all agents' actions one after another.
    pub fn action_len(&self) -> usize {
        self.agents.iter().map(|a| a.action.len()).sum()
    }

    /// A joint action as a policy draws it, as [`Env::step`] takes it, both `[action_len]`: clipped to its spaces, unless
    /// the task clips by itself.
    pub fn clip<A: Copy + Into<f64>>(&self, drawn: &[A], action: &mut [f64]) {
        action.iter_mut().zip(drawn).for_each(|(a, drawn)| *a = (*drawn).into());
        if self.clips_actions {
            return;
        }
        let mut rest = action;
        for agent in &self.agents {
            let (own, others) = rest.split_at_mut(agent.action.len());
            agent.action.clip(own);
            rest = others;
        }
    }

    /// Numbers in one central state, whichever it is.
    pub fn central_len(&self) -> usize {
        if self.state_len > 0 { self.state_len } else { self.obs_len() }
    }

    /// Flags in one joint mask: all agents' choices one after another ([`Space::choices`]); 0 without masks.
    pub fn mask_len(&self) -> usize {
        if self.masked { self.agents.iter().map(|a| a.action.flags()).sum() } else { 0 }
    }
}

/// The dynamics of a task.
///
/// Joint observations, actions and rewards are flat slices, agents one after another. A discrete
/// action is its index, as a whole number. Actions arrive already clipped to their box unless
/// [`Spec::clips_actions`] says otherwise.
pub trait Env: Send {
    /// The task's shapes and limits.
    fn spec(&self) -> &Spec;

    /// Starts an episode and writes its first observation, `[obs_len]`.
    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]);

    /// Advances by one step of `action`, `[action_len]`; writes the next observation, `[obs_len]`,
    /// and one reward an agent. Returns whether the task **terminated** (reached an end that belongs to
    /// the task; running out of time is not one).
    fn step(&mut self, action: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool;

    /// Writes everything that [`Env::step`] depends on, under names of the task's choice.
    fn save(&self, state: &mut State);

    /// Restores what [`Env::save`] wrote.
    ///
    /// # Errors
    /// When an entry is missing or has the wrong length.
    fn load(&mut self, state: &State) -> Result<(), StateError>;

    /// Writes which choices are allowed in the present state, `[mask_len]`: for each discrete choice of each agent, in
    /// order, a flag for each of its values. Choices are independent: any combination of allowed values is a legal
    /// action. Each choice has at least one. A task must survive a forbidden action, at a loss if it likes.
    fn mask(&self, mask: &mut [bool]) {
        mask.fill(true);
    }

    /// Writes the present state as a central critic sees it, `[state_len]`.
    fn central_state(&self, _state: &mut [f32]) {}

    /// Writes who hears whom in the present state, in the shape that the spec declares.
    fn graph(&self, _graph: Graph) {}

    /// What the last step was like beside its rewards, as names and numbers; the names are always the same.
    fn info(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// Names of the policies that come with the task, for comparison. They may look at its whole state.
    fn comparators(&self) -> &'static [&'static str] {
        &[]
    }

    /// Writes what the comparator of that name does in the present state, `[action_len]`, and says whether there is one.
    fn comparator_action(&self, _name: &str, _rng: &mut Rng, _action: &mut [f64]) -> bool {
        false
    }

    /// The states of the present level as an undirected graph, the neighbours of each, for a task whose geometry is of
    /// interest ([`gromov::of_graph`]).
    fn state_graph(&self) -> Option<Vec<Vec<usize>>> {
        None
    }

    /// The present state as a picture; `None` for a task that has none.
    fn scene(&self) -> Option<Scene> {
        None
    }

    /// The present state as pixels, for a task without a [`Env::scene`] that draws itself.
    fn picture(&mut self) -> Option<Picture> {
        None
    }

    /// Whether the last step cut the episode short other than by the spec's time limit, as tasks that are not
    /// written for [`VecEnv`] may. It counts only where the step did not terminate.
    fn truncated(&self) -> bool {
        false
    }

    /// Why the task cannot go on, for one that can fail: a simulator in another language, or in another process.
    /// From then on it writes NaN and terminates at every step. Whoever runs it asks here before using what it wrote.
    fn fault(&self) -> Option<&str> {
        None
    }

    /// The last observation before it was rounded to `f32`, `[obs_len]`, for a task that has it.
    fn precise_obs(&self) -> Option<&[f64]> {
        None
    }

    /// Times that the task's simulation ran away and was put back to its start, since the task was made.
    fn divergences(&self) -> u64 {
        0
    }
}

/// A registered task.
pub struct Entry {
    /// Name, as on the command line.
    pub id: &'static str,
    /// One line for `steadfast list envs`.
    pub summary: &'static str,
    /// Constructor, every option at its default.
    pub make: fn() -> Box<dyn Env>,
    /// The options, at the values that are given as keys and values, or else at their defaults.
    pub options: FromOptions<Vec<EnvOption>>,
    /// The constructor for these options.
    pub maker: FromOptions<Maker>,
}

/// What options, given as keys and values, determine.
pub type FromOptions<T> = fn(&[(&str, &str)]) -> Result<T, OptionError>;

/// A constructor of a task with its options.
pub type Maker = Box<dyn Fn() -> Box<dyn Env> + Send + Sync>;

/// A task without options.
macro_rules! entry {
    ($id:literal, $make:expr, $summary:literal) => {
        Entry {
            id: $id,
            summary: $summary,
            make: || Box::new($make),
            options: |given| options::none($id, given),
            maker: |given| {
                options::none($id, given)?;
                Ok(Box::new(|| Box::new($make)))
            },
        }
    };
}

/// A task of [`mujoco::tasks`]: a struct of options.
macro_rules! robot {
    ($id:literal, $task:ident, $summary:literal) => {
        Entry {
            id: $id,
            summary: $summary,
            make: || Box::new(mujoco::Robot::new(mujoco::tasks::$task::default())),
            options: |given| Ok(mujoco::tasks::$task::of($id, given)?.list()),
            maker: |given| {
                let task = mujoco::tasks::$task::of($id, given)?;
                Ok(Box::new(move || Box::new(mujoco::Robot::new(task.clone()))))
            },
        }
    };
}

/// A robot with several agents, of [`mujoco::split`].
macro_rules! split {
    ($id:literal, $summary:literal) => {
        Entry {
            id: $id,
            summary: $summary,
            make: || mujoco::split::make($id, &mujoco::split::SplitOptions::default()),
            options: |given| Ok(mujoco::split::SplitOptions::of($id, given)?.list()),
            maker: |given| mujoco::split::maker($id, given),
        }
    };
}

/// A task of [`particle`]: a struct of options.
macro_rules! particle {
    ($id:literal, $task:ident, $summary:literal) => {
        Entry {
            id: $id,
            summary: $summary,
            make: || Box::new(particle::Particle::new(particle::$task::default())),
            options: |given| Ok(particle::$task::of($id, given)?.list()),
            maker: |given| {
                let task = particle::$task::of($id, given)?;
                Ok(Box::new(move || Box::new(particle::Particle::new(task.clone()))))
            },
        }
    };
}

/// A task of [`hierarchy`]: a struct of options.
macro_rules! hierarchy {
    ($id:literal, $task:ident, $options:ident, $summary:literal) => {
        Entry {
            id: $id,
            summary: $summary,
            make: || Box::new(hierarchy::$task::new($id, hierarchy::$options::default())),
            options: |given| Ok(hierarchy::$options::given($id, given)?.list()),
            maker: |given| {
                let options = hierarchy::$options::given($id, given)?;
                Ok(Box::new(move || Box::new(hierarchy::$task::new($id, options.clone()))))
            },
        }
    };
}

/// A task of [`uav`], which may be a preset: its name tells it.
macro_rules! uav {
    ($id:literal, $task:ident, $options:ident, $summary:literal) => {
        Entry {
            id: $id,
            summary: $summary,
            make: || Box::new(uav::$task::new($id, uav::$options::preset($id))),
            options: |given| Ok(uav::$options::given($id, given)?.list()),
            maker: |given| {
                let options = uav::$options::given($id, given)?;
                Ok(Box::new(move || Box::new(uav::$task::new($id, options.clone()))))
            },
        }
    };
}

/// Every task, in the order in which `steadfast list envs` prints them.
pub const REGISTRY: &[Entry] = &[
    entry!("Pendulum-v1", classic::Pendulum::default(), "swing a rod up and hold it (Gymnasium)"),
    entry!(
        "MountainCarContinuous-v0",
        classic::MountainCarContinuous::default(),
        "drive an underpowered car out of a valley, continuous force (Gymnasium)"
    ),
    entry!(
        "CartPole-v1",
        classic::CartPole::default(),
        "balance a pole on a cart, left or right (Gymnasium)"
    ),
    entry!(
        "MountainCar-v0",
        classic::MountainCar::default(),
        "drive an underpowered car out of a valley, three gears (Gymnasium)"
    ),
    entry!("Acrobot-v1", classic::Acrobot::default(), "swing a two-link arm above a line (Gymnasium)"),
    entry!("CartPoleSwingUp", classic::CartPoleSwingUp::default(), "swing a pole up by moving its cart"),
    entry!("AcrobotSwingUp", classic::AcrobotSwingUp::default(), "stand a two-link arm on its end"),
    entry!("PlanarQuadrotor", classic::PlanarQuadrotor::default(), "fly two rotors to a goal and hover"),
    entry!(
        "DoubleIntegrator",
        classic::DoubleIntegrator::default(),
        "stop a mass at the origin; exact optimum"
    ),
    robot!("InvertedPendulum-v5", InvertedPendulum, "keep a pole upright on a cart (Gymnasium, MuJoCo)"),
    robot!(
        "InvertedDoublePendulum-v5",
        InvertedDoublePendulum,
        "keep two poles upright on a cart (Gymnasium, MuJoCo)"
    ),
    robot!("Reacher-v5", Reacher, "bring the tip of a flat arm to a target (Gymnasium, MuJoCo)"),
    robot!("Swimmer-v5", Swimmer, "swim with three links in a viscous fluid (Gymnasium, MuJoCo)"),
    robot!("Hopper-v5", Hopper, "hop forward on one leg (Gymnasium, MuJoCo)"),
    robot!("HalfCheetah-v5", HalfCheetah, "run forward on two legs, in a plane (Gymnasium, MuJoCo)"),
    robot!("Walker2d-v5", Walker2d, "walk forward on two legs, in a plane (Gymnasium, MuJoCo)"),
    robot!("Ant-v5", Ant, "walk forward on four legs (Gymnasium, MuJoCo)"),
    robot!("Humanoid-v5", Humanoid, "walk forward on two legs, with arms (Gymnasium, MuJoCo)"),
    robot!("HumanoidStandup-v5", HumanoidStandup, "stand up from lying on the back (Gymnasium, MuJoCo)"),
    robot!("Pusher-v5", Pusher, "push a cylinder to a goal with an arm (Gymnasium, MuJoCo)"),
    split!("HalfCheetah-v5/2x3", "run forward, an agent for each leg (multi-agent MuJoCo)"),
    split!("HalfCheetah-v5/6x1", "run forward, an agent for each joint (multi-agent MuJoCo)"),
    split!("Ant-v5/4x2", "walk forward, an agent for each leg (multi-agent MuJoCo)"),
    split!("Walker2d-v5/2x3", "walk forward, an agent for each leg (multi-agent MuJoCo)"),
    split!("Hopper-v5/3x1", "hop forward, an agent for each joint (multi-agent MuJoCo)"),
    particle!("particle/spread", Spread, "three agents cover three landmarks (MPE2)"),
    particle!("particle/reference", Reference, "two agents tell each other where to go (MPE2)"),
    particle!("particle/speaker-listener", SpeakerListener, "one agent speaks, the other goes there (MPE2)"),
    particle!("particle/tag", Tag, "three hunters chase faster prey among obstacles (MPE2)"),
    uav!(
        "uav-trajectory",
        Trajectory,
        TrajectoryOptions,
        "fly to serve six users fairly (as uav-trajectory/wu2018-1)"
    ),
    uav!(
        "uav-trajectory/wu2018-1",
        Trajectory,
        TrajectoryOptions,
        "fly one UAV to serve six users fairly; exact bound"
    ),
    uav!(
        "uav-trajectory/wu2018-2",
        Trajectory,
        TrajectoryOptions,
        "fly two UAVs to serve six users fairly; exact bound"
    ),
    uav!(
        "uav-harvest",
        Harvest,
        HarvestOptions,
        "collect the data of sensors and land before the battery is empty"
    ),
    uav!("uav-bs", Bs, BsOptions, "three UAV base stations, twelve moving users (as uav-bs/bs-std)"),
    uav!("uav-bs/bs-tiny", Bs, BsOptions, "two UAV base stations, four moving users; exhaustive optimum"),
    uav!("uav-bs/bs-std", Bs, BsOptions, "three UAV base stations, twelve moving users"),
    uav!("uav-bs/bs-dense", Bs, BsOptions, "six UAV base stations, sixty moving users"),
    uav!("uav-bs/bs-jam", Bs, BsOptions, "three UAV base stations, twelve moving users, a jammer"),
    hierarchy!("hierarchy/tree", Tree, TreeOptions, "descend a tree to its best leaf; best return 1"),
    hierarchy!("hierarchy/maze", Maze, MazeOptions, "find the way through a maze with loops; best return 1"),
    hierarchy!(
        "hierarchy/key-door",
        KeyDoor,
        KeyDoorOptions,
        "fetch keys that open the way through rooms; best return 1"
    ),
    hierarchy!("hierarchy/breakout", Breakout, BreakoutOptions, "break bricks with a ball (MinAtar)"),
    hierarchy!("hierarchy/asterix", Asterix, AsterixOptions, "collect gold among enemies (MinAtar)"),
    entry!("probe/bandit", probe::Bandit::discrete(), "one step, four noisy arms; best return 1"),
    entry!("probe/bandit-continuous", probe::Bandit::continuous(), "one step, noisy parabola; best return 0"),
    entry!("probe/identity-discrete", probe::Identity::discrete(), "name the index shown; best return 8"),
    entry!(
        "probe/identity-continuous",
        probe::IdentityContinuous::default(),
        "repeat the numbers shown; best return 0"
    ),
    entry!("probe/multi-discrete", probe::Identity::multi_discrete(), "name two indices; best return 8"),
    entry!("probe/two-step", probe::TwoStep::default(), "act now, be paid one step later; best return 1"),
    entry!(
        "probe/coordination",
        probe::Coordination::default(),
        "two agents name the index shown, together; best return 8"
    ),
    entry!(
        "probe/recall",
        probe::Recall::default(),
        "name a cue after three steps; best return 1, ½ without memory"
    ),
    entry!("probe/endless", probe::Endless::default(), "reward 1 for ever, cut short; value 1/(1 - gamma)"),
];

/// The registered task of that name.
///
/// # Errors
/// [`UnknownEnv`] with the nearest registered name.
pub fn entry(id: &str) -> Result<&'static Entry, UnknownEnv> {
    REGISTRY.iter().find(|e| e.id == id).ok_or_else(|| UnknownEnv {
        id: id.to_owned(),
        nearest: nearest(id, REGISTRY.iter().map(|e| e.id)).unwrap_or_default().to_owned(),
    })
}

/// Builds the registered task of that name.
///
/// # Errors
/// [`UnknownEnv`] with the nearest registered name.
pub fn make(id: &str) -> Result<Box<dyn Env>, UnknownEnv> {
    Ok((entry(id)?.make)())
}

/// Builds the registered task of that name with options, as keys and values. Of a key that is given twice the last
/// counts.
///
/// # Errors
/// [`MakeError`] for an unknown name, an unknown option, or a value that its option does not take.
pub fn make_with(id: &str, given: &[(&str, &str)]) -> Result<Box<dyn Env>, MakeError> {
    Ok((entry(id)?.maker)(given)?())
}

/// A task that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// No task of that name.
    #[error(transparent)]
    Env(#[from] UnknownEnv),
    /// It does not have that option, or not that value.
    #[error(transparent)]
    Option(#[from] OptionError),
}

/// No task of that name.
#[derive(Debug, thiserror::Error)]
#[error("unknown environment '{id}'; did you mean '{nearest}'? (`steadfast list envs` names all)")]
pub struct UnknownEnv {
    /// What was asked for.
    pub id: String,
    /// The registered name most like it.
    pub nearest: String,
}

/// The candidate most like `name` (Jaro-Winkler similarity, case ignored).
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let score = |c: &str| strsim::jaro_winkler(&name, &c.to_lowercase());
    candidates.max_by(|a, b| score(a).total_cmp(&score(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joint_action_is_clipped_agent_by_agent_unless_the_task_does_it() {
        let of = |action| AgentSpec { name: String::new(), obs: Space::Discrete(1), action };
        let single = Spec::single("pair", Space::Discrete(1), Space::uniform(2, -1.0, 1.0), None);
        let mut spec =
            Spec { agents: vec![single.agents[0].clone(), of(Space::uniform(1, 0.0, 3.0))], ..single };
        let mut clip = |clips_actions| {
            spec.clips_actions = clips_actions;
            let mut action = [0.0; 3];
            spec.clip(&[-2.5f32, 0.5, 2.0], &mut action);
            action
        };
        assert_eq!(clip(false), [-1.0, 0.5, 2.0]);
        assert_eq!(clip(true), [-2.5, 0.5, 2.0]);
    }
}
