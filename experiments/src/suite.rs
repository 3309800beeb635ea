//! Named experiments: agents × environments × seeds, as TOML. Both may vary options, which multiplies the agents.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use steadfast_envs::nearest;
use toml::Table;

use crate::settings::{self, RunSettings};
use crate::sweep::space::{self, Search};

/// The suites that come with the binary.
const BUILT_IN: &[(&str, &str)] = &[
    ("mdpo-vs-ppo", include_str!("../suites/mdpo-vs-ppo.toml")),
    ("classic", include_str!("../suites/classic.toml")),
    ("mdpo-vs-ppo-mujoco", include_str!("../suites/mdpo-vs-ppo-mujoco.toml")),
    ("mdpo-vs-ppo-paper", include_str!("../suites/mdpo-vs-ppo-paper.toml")),
    ("mdpo-vs-ppo-minimal", include_str!("../suites/mdpo-vs-ppo-minimal.toml")),
    ("sac-vs-mdpo", include_str!("../suites/sac-vs-mdpo.toml")),
    ("sac-vs-mdpo-mujoco", include_str!("../suites/sac-vs-mdpo-mujoco.toml")),
    ("sb3", include_str!("../suites/sb3.toml")),
    ("sb3-mujoco", include_str!("../suites/sb3-mujoco.toml")),
    ("sb3-sac", include_str!("../suites/sb3-sac.toml")),
    ("hyperbolic", include_str!("../suites/hyperbolic.toml")),
    ("hyperbolic-control", include_str!("../suites/hyperbolic-control.toml")),
    ("hyperbolic-stability", include_str!("../suites/hyperbolic-stability.toml")),
    ("hyperbolic-heads", include_str!("../suites/hyperbolic-heads.toml")),
    ("hyperbolic-dial", include_str!("../suites/hyperbolic-dial.toml")),
    ("hyperbolic-levels", include_str!("../suites/hyperbolic-levels.toml")),
    ("spread", include_str!("../suites/spread.toml")),
    ("uav", include_str!("../suites/uav.toml")),
    ("uav-ablation", include_str!("../suites/uav-ablation.toml")),
    ("smoke", include_str!("../suites/smoke.toml")),
];

/// A suite file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// File stem; names the output folder.
    #[serde(skip)]
    pub name: String,
    /// Heading of figures and tables.
    pub title: String,
    /// Seeds as on the command line: `5`, `0..5` or `1,4,7`.
    pub seeds: String,
    /// Evaluations after the first one at step 0, evenly spaced.
    #[serde(default = "twenty")]
    pub evaluations: u64,
    /// Episodes of an evaluation.
    #[serde(default = "ten")]
    pub eval_episodes: usize,
    /// Episodes of the last evaluation.
    #[serde(default = "hundred")]
    pub final_episodes: usize,
    /// How the points of `vary` are chosen.
    #[serde(default)]
    pub search: Search,
    /// Agents.
    pub agents: Vec<SuiteAgent>,
    /// Environments.
    pub envs: Vec<SuiteEnv>,
}

/// An agent of a suite.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteAgent {
    /// Registered algorithm.
    pub name: String,
    /// Name in rows and figures; the algorithm's by default.
    pub label: Option<String>,
    /// Preset; `default` by default.
    #[serde(default = "default_preset")]
    pub preset: String,
    /// The environments that it is for; all of the suite by default.
    pub envs: Option<Vec<String>>,
    /// Environment steps of its training; the environments' by default.
    pub steps: Option<u64>,
    /// Options that override the preset.
    #[serde(default)]
    pub set: Table,
    /// Options to try several values of: `key = [values]`, or a range `key = { from, to, log, points }`. Each point is an agent
    /// of its own, labelled `LABEL+key=value`.
    #[serde(default)]
    pub vary: Table,
}

/// An environment of a suite.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteEnv {
    /// Registered environment.
    pub id: String,
    /// Environment steps of training.
    pub steps: u64,
    /// Options that override the agents' on this environment.
    #[serde(default)]
    pub set: Table,
    /// Options of the environment.
    #[serde(default)]
    pub env_set: Table,
    /// Options of the environment, over those, on which every evaluation is done a second time, in rows of `ID+key=value`.
    #[serde(default)]
    pub eval_env_set: Table,
    /// Options of the environment to try several values of; they, too, are told apart by the agents' labels.
    #[serde(default)]
    pub vary: Table,
}

/// What the command line changes about a suite.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Overrides {
    /// Seeds instead of the suite's.
    pub seeds: Option<Vec<u64>>,
    /// Steps instead of each environment's.
    pub steps: Option<u64>,
    /// Options of all agents.
    pub set: Table,
    /// Device of all runs.
    pub device: String,
}

fn twenty() -> u64 {
    20
}

fn ten() -> usize {
    10
}

fn hundred() -> usize {
    100
}

fn default_preset() -> String {
    "default".to_owned()
}

/// Names and titles of the built-in suites.
///
/// # Errors
/// When one is malformed.
pub fn built_in() -> Result<Vec<Suite>> {
    BUILT_IN.iter().map(|(name, text)| parse(name, text)).collect()
}

/// The suite of that name, or the one in that file.
///
/// # Errors
/// For an unknown name, and for a file that cannot be read or is malformed.
pub fn load(name: &str) -> Result<Suite> {
    if let Some((name, text)) = BUILT_IN.iter().find(|(n, _)| *n == name) {
        return parse(name, text);
    }
    if !name.ends_with(".toml") {
        let near = nearest(name, BUILT_IN.iter().map(|(n, _)| *n)).unwrap_or_default();
        bail!(
            "unknown suite '{name}'; did you mean '{near}'? (`steadfast list suites` names all; a path ends in .toml)"
        );
    }
    let text = std::fs::read_to_string(name).with_context(|| format!("cannot read suite {name}"))?;
    let stem = Path::new(name).file_stem().and_then(|s| s.to_str()).unwrap_or("suite");
    parse(stem, &text).with_context(|| format!("suite {name}"))
}

fn parse(name: &str, text: &str) -> Result<Suite> {
    let mut suite: Suite = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |s| 1 + text[..s.start.min(text.len())].matches('\n').count());
        anyhow!("line {line}: {}", e.message().trim())
    })?;
    suite.name = name.to_owned();
    if suite.agents.is_empty() || suite.envs.is_empty() {
        bail!("suite '{name}' needs at least one agent and one environment");
    }
    if suite.evaluations == 0 || suite.eval_episodes == 0 || suite.final_episodes == 0 {
        bail!("suite '{name}': evaluations, eval_episodes and final_episodes must be at least 1");
    }
    Ok(suite)
}

impl Suite {
    /// One run for each agent, environment and seed, sorted by label, environment and seed.
    ///
    /// # Errors
    /// For unknown agents, environments, presets or options, and for two agents of one label.
    pub fn cells(&self, overrides: &Overrides) -> Result<Vec<RunSettings>> {
        let context = || format!("suite '{}'", self.name);
        let seeds = match &overrides.seeds {
            Some(seeds) => seeds.clone(),
            None => settings::seed_list(&self.seeds).map_err(|e| anyhow!(e)).with_context(context)?,
        };
        let mut cells = Vec::new();
        for agent in &self.agents {
            let label = agent.label.clone().unwrap_or_else(|| agent.name.clone());
            if let Some(key) = agent.vary.keys().find(|key| overrides.set.contains_key(*key)) {
                bail!("suite '{}' varies '{key}' of '{label}', and --set sets it", self.name);
            }
            if let Some(absent) =
                agent.envs.iter().flatten().find(|id| self.envs.iter().all(|env| env.id != **id))
            {
                bail!("suite '{}' has '{label}' for {absent}, which is none of its environments", self.name);
            }
            let meant = |env: &&SuiteEnv| agent.envs.as_ref().is_none_or(|ids| ids.contains(&env.id));
            for env in self.envs.iter().filter(meant) {
                let mut vary = agent.vary.clone();
                for (key, values) in &env.vary {
                    if vary.insert(key.clone(), values.clone()).is_some() {
                        bail!("suite '{}' varies '{key}' of both '{label}' and {}", self.name, env.id);
                    }
                }
                for point in space::points(&vary, &self.search).with_context(context)? {
                    let suffix = space::suffix(&point);
                    let (of_env, of_agent): (Table, Table) =
                        point.into_iter().partition(|(key, _)| env.vary.contains_key(key));
                    let mut given = env.env_set.clone();
                    given.extend(of_env);
                    let env_options = settings::resolve_env(&env.id, &given).with_context(context)?;
                    let layers = [&agent.set, &env.set, &overrides.set, &of_agent];
                    let options = settings::resolve(&agent.name, &env.id, &agent.preset, &layers)
                        .with_context(context)?;
                    let cell = RunSettings {
                        label: format!("{label}{suffix}"),
                        agent: agent.name.clone(),
                        preset: agent.preset.clone(),
                        env: env.id.clone(),
                        seed: 0,
                        steps: overrides.steps.or(agent.steps).unwrap_or(env.steps),
                        evaluations: self.evaluations,
                        eval_episodes: self.eval_episodes,
                        final_episodes: self.final_episodes,
                        device: overrides.device.clone(),
                        env_options,
                        eval_env_options: settings::texts(&env.eval_env_set),
                        options,
                    };
                    cell.second_env_options().with_context(context)?;
                    cells.extend(seeds.iter().map(|&seed| RunSettings { seed, ..cell.clone() }));
                }
            }
        }
        cells.sort_by(|a, b| (&a.label, &a.env, a.seed).cmp(&(&b.label, &b.env, b.seed)));
        let same =
            |w: &&[RunSettings]| (&w[0].label, &w[0].env, w[0].seed) == (&w[1].label, &w[1].env, w[1].seed);
        if let Some(twice) = cells.windows(2).find(same) {
            bail!(
                "suite '{}' has '{}' on {} with seed {} twice; give agents distinct labels",
                self.name,
                twice[0].label,
                twice[0].env,
                twice[0].seed
            );
        }
        Ok(cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_suites_resolve() {
        let overrides = Overrides { device: "cpu".into(), ..Overrides::default() };
        for suite in built_in().unwrap() {
            assert!(!suite.cells(&overrides).unwrap().is_empty());
        }
    }

    #[test]
    fn mistakes_in_a_suite_are_named() {
        let base = "title = 't'\nseeds = '2'\n[[agents]]\nname = 'ppo'\n[[envs]]\nid = 'CartPole-v1'\nsteps = 9000\n";
        let overrides = Overrides { device: "cpu".into(), ..Overrides::default() };
        let error = |text: &str| {
            format!("{:#}", parse("x", text).and_then(|s| s.cells(&overrides)).map(|_| ()).unwrap_err())
        };
        assert!(parse("x", base).unwrap().cells(&overrides).is_ok());
        assert!(error(&base.replace("'ppo'", "'pppo'")).contains("did you mean 'ppo'"));
        assert!(error(&base.replace("CartPole-v1", "CartPole-v2")).contains("did you mean 'CartPole-v1'"));
        assert!(error(&base.replace("seeds", "seedz")).contains("line 2: unknown field `seedz`"));
        assert!(error(&base.replace("steps = 9000", "steps = -1")).contains("line 7"));
        assert!(error(&base.replace("'ppo'", "'ppo'\nset = { gama = 1 }")).contains("did you mean 'gamma'"));
        let varied = base.replace("'ppo'", "'ppo'\nvary = { gama = [0.9, 0.99] }");
        assert!(error(&varied).contains("did you mean 'gamma'"));
        let of_env = error(&base.replace("steps = 9000", "steps = 9000\nenv_set = { gravity = 1 }"));
        assert!(of_env.contains("CartPole-v1 has no options"), "{of_env}");
        assert!(
            error(&base.replace("[[envs]]", "[[agents]]\nname = 'ppo'\n[[envs]]"))
                .contains("distinct labels")
        );
    }

    #[test]
    fn an_agent_may_be_for_some_of_the_environments() {
        let text = "title = 't'\nseeds = '1'\n[[agents]]\nname = 'random'\n[[agents]]\nname = 'ppo'\nenvs = ['Ant-v5']\n\
                    [[envs]]\nid = 'Ant-v5'\nsteps = 9000\n[[envs]]\nid = 'Pendulum-v1'\nsteps = 9000\n";
        let overrides = Overrides { device: "cpu".into(), ..Overrides::default() };
        let cells = parse("x", text).unwrap().cells(&overrides).unwrap();
        let of: Vec<(&str, &str)> = cells.iter().map(|c| (c.label.as_str(), c.env.as_str())).collect();
        assert_eq!(of, [("ppo", "Ant-v5"), ("random", "Ant-v5"), ("random", "Pendulum-v1")]);
        let absent = text.replace("envs = ['Ant-v5']", "envs = ['Ant-v4']");
        let error = parse("x", &absent).unwrap().cells(&overrides).unwrap_err().to_string();
        assert!(error.contains("'ppo' for Ant-v4"), "{error}");
    }

    #[test]
    fn a_second_evaluation_has_options_of_its_own() {
        let text = "title = 't'\nseeds = '1'\n[[agents]]\nname = 'ppo'\n[[envs]]\nid = 'hierarchy/maze'\nsteps = 9000\n\
                    env_set = { size = 4 }\neval_env_set = { levels = 'test' }\n";
        let overrides = Overrides { device: "cpu".into(), ..Overrides::default() };
        let cells = parse("x", text).unwrap().cells(&overrides).unwrap();
        assert_eq!(cells[0].second_env().unwrap(), "hierarchy/maze+levels=test");
        assert_eq!(settings::trained_on("hierarchy/maze+levels=test"), "hierarchy/maze");
        let (trained, second) = (&cells[0].env_options, cells[0].second_env_options().unwrap());
        assert_eq!((trained["size"].as_str(), trained["levels"].as_str()), ("4", "train"));
        assert_eq!((second["size"].as_str(), second["levels"].as_str()), ("4", "test"));
        let error = parse("x", &text.replace("levels", "levelz")).unwrap().cells(&overrides).unwrap_err();
        assert!(format!("{error:#}").contains("levelz"), "{error:#}");
    }

    #[test]
    fn an_agent_may_take_its_own_steps() {
        let text = "title = 't'\nseeds = '1'\n[[agents]]\nname = 'trpo'\n[[agents]]\nname = 'ppo'\nsteps = 20_000\n\
                    [[envs]]\nid = 'Pendulum-v1'\nsteps = 9000\n";
        let overrides = Overrides { device: "cpu".into(), ..Overrides::default() };
        let suite = parse("x", text).unwrap();
        let steps = |overrides: &Overrides| -> Vec<u64> {
            suite.cells(overrides).unwrap().iter().map(|cell| cell.steps).collect()
        };
        assert_eq!(steps(&overrides), [20_000, 9000]);
        assert_eq!(steps(&Overrides { steps: Some(500_000), ..overrides }), [500_000, 500_000]);
    }

    #[test]
    fn varied_options_are_agents_of_their_own() {
        let text = "title = 't'\nseeds = '2'\n[[agents]]\nname = 'ppo'\nvary = { clip = [0.1, 0.2] }\n[[agents]]\nname = 'random'\n\
                    [[envs]]\nid = 'Ant-v5'\nsteps = 9000\nvary = { frame_skip = [4, 5] }\n";
        let overrides = Overrides { device: "cpu".into(), ..Overrides::default() };
        let suite = parse("x", text).unwrap();
        let cells = suite.cells(&overrides).unwrap();
        let labels: Vec<&str> = cells.iter().step_by(2).map(|cell| cell.label.as_str()).collect();
        let expected = [
            "ppo+clip=0.1+frame_skip=4",
            "ppo+clip=0.1+frame_skip=5",
            "ppo+clip=0.2+frame_skip=4",
            "ppo+clip=0.2+frame_skip=5",
            "random+frame_skip=4",
            "random+frame_skip=5",
        ];
        assert_eq!((cells.len(), labels.as_slice()), (12, expected.as_slice()));
        assert_eq!(cells[4].options["clip"].as_float(), Some(0.2));
        assert_eq!(cells[0].env_options["frame_skip"], "4");
        assert!(cells.iter().all(|cell| cell.validate().is_ok()));
        let set = settings::assignments(&["clip=0.3".into()]).unwrap();
        let error = suite.cells(&Overrides { set, ..overrides }).unwrap_err().to_string();
        assert!(error.contains("varies 'clip' of 'ppo', and --set sets it"), "{error}");
    }
}
