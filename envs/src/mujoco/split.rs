//! Robots with an agent for each part of the body: `HalfCheetah-v5/2x3` has two agents of three joints.
//!
//! Joints are the nodes of a graph, and those that meet in a part of the body share an edge, as in multi-agent
//! MuJoCo. An agent sees the positions and velocities of its own joints, the positions of those up to `near`
//! edges away, nearer ones first and equally near ones by name, and with `root` position and velocity of the
//! torso; of the ant with `contacts` also the clipped contact forces on its limbs. With `full` it sees all positions
//! and velocities, and its number as a one-hot vector. Horizontal positions of the torso are left out, as in the
//! robot's own observation; rates of the hopper are clipped to ±10. All agents get the reward of the robot, whose
//! options have their defaults. The central state is the vector of all positions and velocities of the simulation.
//!
//! Observations and actions are those of multi-agent MuJoCo in Gymnasium-Robotics 1.4 (`mamujoco_v1`), which the tests
//! of the Python package step beside these. Older codes differ: the multi-agent trust-region papers' shows
//! everything (`full`), and the first leaves out the torso (`root` = false) and hands on the actions in the order of the
//! agents where here each goes to the motor of its joint.
//!
//! Source: B. Peng et al., *FACMAC: factored multi-agent centralised policy gradients*, 2021.

use super::tasks::{Ant, HalfCheetah, Hopper, Robot, Task, Walker2d};
use crate::options::{Options as _, options};
use crate::{AgentSpec, Env, OptionError, Rng, Scene, Space, Spec, State, StateError};

options! {
    /// Options of [`Split`].
    pub struct SplitOptions {
        /// How many edges away joints are seen: 0, 1, 2, or more.
        near: Near = Near(1),
        /// Whether an agent sees the torso.
        root: bool = true,
        /// Whether an agent of the ant sees the contact forces on its limbs.
        contacts: bool = true,
        /// Whether an agent sees everything but contact forces, and its number.
        full: bool = false,
    }
}

/// A number of edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near(pub usize);

impl crate::options::OptionValue for Near {
    const TAKES: &'static str = "a whole number from 0 to 10";
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|n| *n <= 10).map(Self)
    }
    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// How a robot is split.
pub struct Plan {
    /// Registered name.
    pub id: &'static str,
    /// Joints: name, and number of their velocity.
    pub joints: &'static [(&'static str, usize)],
    /// Joints that meet.
    pub edges: &'static [&'static [&'static str]],
    /// Joints of each agent, in the order of its action.
    pub parts: &'static [&'static [&'static str]],
    /// Bodies whose contact forces are seen with a joint, by number.
    pub bodies: &'static [(&'static str, &'static [usize])],
    /// Positions of the torso that are left out.
    pub hidden: usize,
    /// Bound of the rates that an agent sees.
    pub fastest: f64,
}

const CHEETAH: Plan = Plan {
    id: "HalfCheetah-v5/2x3",
    joints: &[("bthigh", 3), ("bshin", 4), ("bfoot", 5), ("fthigh", 6), ("fshin", 7), ("ffoot", 8)],
    edges: &[
        &["bfoot", "bshin"],
        &["bshin", "bthigh"],
        &["bthigh", "fthigh"],
        &["fthigh", "fshin"],
        &["fshin", "ffoot"],
    ],
    parts: &[&["bthigh", "bshin", "bfoot"], &["fthigh", "fshin", "ffoot"]],
    bodies: &[],
    hidden: 1,
    fastest: f64::INFINITY,
};

/// The splits that are registered.
pub const PLANS: [Plan; 5] = [
    CHEETAH,
    Plan {
        id: "HalfCheetah-v5/6x1",
        parts: &[&["bthigh"], &["bshin"], &["bfoot"], &["fthigh"], &["fshin"], &["ffoot"]],
        ..CHEETAH
    },
    Plan {
        id: "Ant-v5/4x2",
        joints: &[
            ("hip1", 6),
            ("ankle1", 7),
            ("hip2", 8),
            ("ankle2", 9),
            ("hip3", 10),
            ("ankle3", 11),
            ("hip4", 12),
            ("ankle4", 13),
        ],
        edges: &[
            &["ankle4", "hip4"],
            &["ankle1", "hip1"],
            &["ankle2", "hip2"],
            &["ankle3", "hip3"],
            &["hip4", "hip1", "hip2", "hip3"],
        ],
        parts: &[&["hip1", "ankle1"], &["hip2", "ankle2"], &["hip3", "ankle3"], &["hip4", "ankle4"]],
        bodies: &[
            ("hip1", &[1, 2]),
            ("ankle1", &[2, 3, 4]),
            ("hip2", &[1, 5]),
            ("ankle2", &[5, 6, 7]),
            ("hip3", &[1, 8]),
            ("ankle3", &[8, 9, 10]),
            ("hip4", &[1, 11]),
            ("ankle4", &[11, 12, 13]),
        ],
        hidden: 2,
        fastest: f64::INFINITY,
    },
    Plan {
        id: "Walker2d-v5/2x3",
        joints: &[
            ("thigh", 3),
            ("leg", 4),
            ("foot", 5),
            ("thigh_left", 6),
            ("leg_left", 7),
            ("foot_left", 8),
        ],
        edges: &[
            &["foot", "leg"],
            &["leg", "thigh"],
            &["foot_left", "leg_left"],
            &["leg_left", "thigh_left"],
            &["thigh", "thigh_left"],
        ],
        parts: &[&["foot", "leg", "thigh"], &["foot_left", "leg_left", "thigh_left"]],
        bodies: &[],
        hidden: 1,
        fastest: f64::INFINITY,
    },
    Plan {
        id: "Hopper-v5/3x1",
        joints: &[("thigh", 3), ("leg", 4), ("foot", 5)],
        edges: &[&["foot", "leg"], &["leg", "thigh"]],
        parts: &[&["thigh"], &["leg"], &["foot"]],
        bodies: &[],
        hidden: 1,
        fastest: 10.0,
    },
];

impl Plan {
    /// Velocity of a joint of the plan.
    fn dof(&self, joint: &str) -> usize {
        self.joints.iter().find(|(name, _)| *name == joint).map_or(0, |(_, dof)| *dof)
    }

    /// Joints exactly so many edges from a part, by name.
    fn at(&self, part: &[&'static str], distance: usize) -> Vec<&'static str> {
        let mut seen: Vec<&str> = Vec::new();
        let mut ring: Vec<&'static str> = part.to_vec();
        for _ in 0..distance {
            seen.extend(&ring);
            let meets = |edge: &&&[&'static str]| edge.iter().any(|joint| ring.contains(joint));
            let next = self.edges.iter().filter(meets).flat_map(|edge| edge.iter().copied());
            ring = next.filter(|joint| !seen.contains(joint)).collect();
        }
        ring.sort_unstable();
        ring.dedup();
        ring
    }

    /// Bodies whose contact forces are seen first with that joint, where those of the joints in `before` are seen already.
    fn touched(&self, joint: &str, before: &[&str]) -> Vec<usize> {
        let of =
            |joint: &str| self.bodies.iter().find(|(name, _)| *name == joint).map_or(&[][..], |(_, b)| *b);
        let new = |body: &usize| !before.iter().any(|joint| of(joint).contains(body));
        of(joint).iter().copied().filter(new).collect()
    }
}

/// A robot with several agents.
pub struct Split<T, const NQ: usize, const NV: usize, const NB: usize> {
    spec: Spec,
    robot: Robot<T, NQ, NV, NB>,
    fastest: f64,
    /// Motor of each number of the joint action.
    motors: Vec<usize>,
    /// What each agent sees: numbers of positions, NQ and more for velocities, NQ + NV and more for what the robot sees.
    seen: Vec<Vec<usize>>,
    /// Whether an agent sees its number.
    numbered: bool,
    /// What the robot sees, and does.
    obs: Vec<f32>,
    action: Vec<f64>,
}

impl<T: Task<NQ, NV, NB>, const NQ: usize, const NV: usize, const NB: usize> Split<T, NQ, NV, NB> {
    /// The robot of a task, split.
    pub fn new(task: T, plan: &Plan, options: &SplitOptions) -> Self {
        let robot = Robot::new(task);
        let actuators = robot.sim().model().actuators;
        let motor = |joint: &&str| actuators.iter().position(|a| a.dof == plan.dof(joint)).unwrap_or(0);
        let motors: Vec<usize> = plan.parts.iter().flat_map(|part| part.iter().map(motor)).collect();
        // Hinges come last among the positions and the velocities.
        let position = |joint: &str| NQ - NV + plan.dof(joint);
        let velocity = |joint: &str| NQ + plan.dof(joint);
        let hinges = plan.joints.len();
        let torso = (plan.hidden..NQ - hinges).chain(NQ..NQ + NV - hinges);
        let sees = |part: &&[&'static str]| -> Vec<usize> {
            if options.full {
                return (plan.hidden..NQ + NV).collect();
            }
            let joints = plan.at(part, 0);
            let own = joints.iter().enumerate().flat_map(|(i, joint)| {
                let bodies = if options.contacts { plan.touched(joint, &joints[..i]) } else { Vec::new() };
                // The robot sees the forces on all bodies after its positions and velocities; body 0 is the ground.
                let forces = NQ + NV + NQ - plan.hidden + NV;
                let touched =
                    bodies.into_iter().flat_map(move |body| (0..6).map(move |i| forces + 6 * (body - 1) + i));
                [position(joint), velocity(joint)].into_iter().chain(touched)
            });
            let near = (1..=options.near.0).flat_map(|d| plan.at(part, d)).map(position);
            own.chain(near).chain(torso.clone().filter(|_| options.root)).collect()
        };
        let seen: Vec<Vec<usize>> = plan.parts.iter().map(sees).collect();
        let (n, whole) = (plan.parts.len(), robot.spec().clone());
        let agent = |i: usize| {
            let len = seen[i].len() + if options.full { n } else { 0 };
            let bounds: Vec<(f64, f64)> =
                plan.parts[i].iter().map(|j| (actuators[motor(j)].low, actuators[motor(j)].high)).collect();
            let (low, high) = bounds.iter().map(|(l, h)| (*l as f32, *h as f32)).unzip();
            AgentSpec {
                name: format!("agent_{i}"),
                obs: Space::uniform(len, f32::NEG_INFINITY, f32::INFINITY),
                action: Space::Box { low, high },
            }
        };
        let spec = Spec {
            id: plan.id.to_owned(),
            agents: (0..n).map(agent).collect(),
            state_len: NQ + NV,
            ..whole.clone()
        };
        Self {
            spec,
            fastest: plan.fastest,
            motors,
            seen,
            numbered: options.full,
            obs: vec![0.0; whole.obs_len()],
            action: vec![0.0; whole.action_len()],
            robot,
        }
    }

    fn number(&self, index: usize) -> f32 {
        let sim = self.robot.sim();
        if index < NQ {
            sim.qpos[index] as f32
        } else if index < NQ + NV {
            sim.qvel[index - NQ].clamp(-self.fastest, self.fastest) as f32
        } else {
            self.obs[index - NQ - NV]
        }
    }

    fn observe(&self, obs: &mut [f32]) {
        let mut rest = obs.iter_mut();
        for (i, seen) in self.seen.iter().enumerate() {
            let own = seen.iter().map(|index| self.number(*index));
            let one_hot =
                (0..self.seen.len()).filter(|_| self.numbered).map(|j| if i == j { 1.0 } else { 0.0 });
            own.chain(one_hot).zip(rest.by_ref()).for_each(|(x, slot)| *slot = x);
        }
    }
}

impl<T: Task<NQ, NV, NB>, const NQ: usize, const NV: usize, const NB: usize> Env for Split<T, NQ, NV, NB> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.robot.reset(rng, &mut self.obs);
        self.observe(obs);
    }

    fn step(&mut self, action: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        for (motor, a) in self.motors.iter().zip(action) {
            self.action[*motor] = *a;
        }
        let mut paid = [0.0];
        let terminated = self.robot.step(&self.action, rng, &mut self.obs, &mut paid);
        reward.fill(paid[0]);
        self.observe(obs);
        terminated
    }

    fn central_state(&self, state: &mut [f32]) {
        let sim = self.robot.sim();
        state.iter_mut().zip(sim.qpos.iter().chain(&sim.qvel)).for_each(|(slot, x)| *slot = *x as f32);
    }

    fn save(&self, state: &mut State) {
        self.robot.save(state);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        self.robot.load(state)
    }

    fn scene(&self) -> Option<Scene> {
        self.robot.scene()
    }

    fn divergences(&self) -> u64 {
        self.robot.divergences()
    }
}

/// The split of a registered name with options given as text, as a constructor.
///
/// # Errors
/// For an unknown option, and for a value that it does not take.
pub(crate) fn maker(id: &'static str, given: &[(&str, &str)]) -> Result<crate::Maker, OptionError> {
    let options = SplitOptions::of(id, given)?;
    Ok(Box::new(move || make(id, &options)))
}

/// The split of a registered name; of any other, the first.
pub(crate) fn make(id: &str, options: &SplitOptions) -> Box<dyn Env> {
    let plan = PLANS.iter().find(|plan| plan.id == id).unwrap_or(&CHEETAH);
    match id.split('/').next() {
        Some("Ant-v5") => Box::new(Split::new(Ant::default(), plan, options)),
        Some("Walker2d-v5") => Box::new(Split::new(Walker2d::default(), plan, options)),
        Some("Hopper-v5") => Box::new(Split::new(Hopper::default(), plan, options)),
        _ => Box::new(Split::new(HalfCheetah::default(), plan, options)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use crate::{make as whole, make_with};

    #[test]
    fn a_split_robot_moves_and_is_paid_as_the_whole() {
        for plan in &PLANS {
            let mut split = make_with(plan.id, &[]).unwrap();
            let mut robot = whole(plan.id.split('/').next().unwrap()).unwrap();
            let (mut a, mut b) = (stream(0, Purpose::Check, 0), stream(0, Purpose::Check, 0));
            let mut obs = vec![0.0; split.spec().obs_len()];
            let mut whole_obs = vec![0.0; robot.spec().obs_len()];
            split.reset(&mut a, &mut obs);
            robot.reset(&mut b, &mut whole_obs);
            let names: Vec<&str> = plan.parts.iter().flat_map(|part| part.iter().copied()).collect();
            let (mut rewards, mut reward) = (vec![0.0; plan.parts.len()], [0.0]);
            for t in 0..20 {
                // Each joint by its name: the whole robot's motors are in the order of the joints, but for the
                // ant, which begins with its fourth leg.
                let of = |name: &str| ((t * 5 + plan.dof(name) * 3) % 7) as f64 / 3.0 - 1.0;
                let action: Vec<f64> = names.iter().map(|name| of(name)).collect();
                let mut order: Vec<&str> = plan.joints.iter().map(|(name, _)| *name).collect();
                if plan.id.starts_with("Ant") {
                    order.rotate_right(2);
                }
                let whole_action: Vec<f64> = order.iter().map(|name| of(name)).collect();
                let over = split.step(&action, &mut a, &mut obs, &mut rewards);
                assert_eq!(over, robot.step(&whole_action, &mut b, &mut whole_obs, &mut reward));
                assert!(rewards.iter().all(|r| r.to_bits() == reward[0].to_bits()), "{} {t}", plan.id);
            }
        }
    }

    #[test]
    fn agents_see_what_is_near() {
        let ant = &PLANS[2];
        assert_eq!(ant.at(ant.parts[0], 0), ["ankle1", "hip1"]);
        assert_eq!(ant.at(ant.parts[0], 1), ["hip2", "hip3", "hip4"]);
        assert_eq!(ant.at(ant.parts[0], 2), ["ankle2", "ankle3", "ankle4"]);
        let sizes = |id, given: &[(&str, &str)]| -> Vec<usize> {
            make_with(id, given).unwrap().spec().agents.iter().map(|a| a.obs.len()).collect()
        };
        // Own three joints twice, one neighbour, and five numbers of the torso.
        assert_eq!(sizes("HalfCheetah-v5/2x3", &[]), [12, 12]);
        assert_eq!(sizes("HalfCheetah-v5/2x3", &[("root", "false"), ("near", "0")]), [6, 6]);
        assert_eq!(sizes("HalfCheetah-v5/2x3", &[("full", "true")]), [19, 19]);
        assert_eq!(sizes("HalfCheetah-v5/6x1", &[("root", "false")]), [4, 4, 3, 4, 4, 3]);
        assert_eq!(sizes("Hopper-v5/3x1", &[("near", "2"), ("root", "false")]), [4, 4, 4]);
        // The torso of the ant has five positions beside x and y, and six velocities; forces act on four bodies.
        assert_eq!(sizes("Ant-v5/4x2", &[]), [4 + 3 + 11 + 4 * 6; 4]);
        assert_eq!(sizes("Ant-v5/4x2", &[("contacts", "false")]), [4 + 3 + 11; 4]);
        assert_eq!((ant.touched("ankle1", &[]), ant.touched("hip1", &["ankle1"])), (vec![2, 3, 4], vec![1]));
        // Everything is what the whole robot sees, and a number.
        assert_eq!(sizes("Walker2d-v5/2x3", &[("full", "true")]), [17 + 2; 2]);
    }
}
