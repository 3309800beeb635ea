use std::fmt::Write as _;

use proptest::prelude::*;
use resvg::usvg;

use super::*;
use crate::summary::Score;

fn svg(curves: &[Curve], options: &Options) -> String {
    svg::lines(curves, &options.labels(curves))
}

fn terminal(curves: &[Curve], options: &Options, color: bool) -> String {
    terminal::terminal(curves, &options.labels(curves), color)
}

const EVAL: &str = "agent,env,seed,step,episodes,return_mean\n";

/// A folder with files of these names and texts.
fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn column(y: &str) -> Options {
    Options { y: y.to_owned(), ..Options::default() }
}

/// Rows `agent,E,seed,step,10,value`.
fn rows(agent: &str, seed: u64, points: &[(u64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{agent},E,{seed},{x},10,{y}\n")).collect()
}

/// Smooth curves that differ between agents and seeds.
fn example(envs: &[&str], agents: &[&str], points: usize, scale: f64) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (e, env) in envs.iter().enumerate() {
        for (a, agent) in agents.iter().enumerate() {
            let x: Vec<f64> = (0..points).map(|i| i as f64 * 5e4).collect();
            let centre = x.iter().map(|x| scale * ((x / 3e5 + a as f64).sin() - 0.3 * e as f64));
            let centre: Vec<f64> = centre.collect();
            let low = centre.iter().map(|y| y - 0.2 * scale).collect();
            let high = centre.iter().map(|y| y + 0.1 * scale).collect();
            curves.push(Curve {
                env: env.to_string(),
                agent: agent.to_string(),
                x,
                centre,
                low,
                high,
                seeds: 5,
                episodes: None,
            });
        }
    }
    curves
}

#[test]
fn a_curve_is_the_statistic_of_its_seeds() {
    let mut text = EVAL.to_owned();
    for (seed, offset) in [0.0, 4.0, 5.0, 6.0, 100.0].into_iter().enumerate() {
        text += &rows("ppo", seed as u64, &[(0, offset), (10, 2.0 * offset)]);
    }
    let folder = folder(&[("eval.csv", text)]);
    let paths = [folder.path().to_owned()];
    let (curves, warnings) = curves(&paths, &Options::default()).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let [curve] = &curves[..] else { panic!("{curves:?}") };
    assert_eq!((curve.seeds, &curve.x, &curve.centre), (5, &vec![0.0, 10.0], &vec![5.0, 10.0]));
    let seeds = [vec![0.0, 4.0, 5.0, 6.0, 100.0]];
    let (low, high) = stats::interval(&seeds, Statistic::Iqm, stats::BAND_RESAMPLES, 0).unwrap();
    assert_eq!((curve.low[0], curve.high[0]), (low, high));
    let options = Options { statistic: Statistic::Mean, ..Options::default() };
    assert_eq!(super::curves(&paths, &options).unwrap().0[0].centre, [23.0, 46.0]);
}

#[test]
fn short_diverged_and_empty_runs_are_named() {
    let text = EVAL.to_owned()
        + &rows("a", 0, &[(0, 1.0), (10, 2.0), (20, 3.0)])
        + &rows("a", 1, &[(0, 3.0), (10, 4.0)])
        + &rows("b", 0, &[(0, 1.0), (10, f64::NAN), (20, 5.0)])
        + &rows("b", 1, &[(0, 1.0), (10, 3.0), (20, 5.0)])
        + "c,E,0,0,10,\n"
        + &rows("d", 0, &[(0, f64::INFINITY)]);
    let folder = folder(&[("eval.csv", text)]);
    let (curves, warnings) = curves(&[folder.path().to_owned()], &Options::default()).unwrap();
    assert_eq!(
        curves.iter().map(|c| (&*c.agent, c.x.clone())).collect::<Vec<_>>(),
        [("a", vec![0.0, 10.0]), ("b", vec![0.0, 20.0])]
    );
    assert_eq!(curves[0].centre, [2.0, 3.0]);
    assert_eq!(curves[1].centre, [1.0, 5.0]);
    assert_eq!(
        warnings,
        [
            "b on E, seed 0: 1 of 3 values of 'return_mean' are not finite; left out",
            "c on E, seed 0: no value of 'return_mean'; left out",
            "d on E, seed 0: 1 of 1 values of 'return_mean' are not finite; left out",
            "a on E, seed 1: ends at step 10, others reach 20; the curve ends with it",
        ]
    );
}

#[test]
fn seeds_without_common_steps_are_interpolated() {
    let text = "agent,env,seed,step,iteration,entropy\na,E,0,0,0,0\na,E,0,100,1,100\n\
                a,E,1,10,0,10\na,E,1,30,1,30\na,E,1,98,2,98\n";
    let folder = folder(&[("train.csv", text.to_owned())]);
    let (curves, warnings) = curves(&[folder.path().to_owned()], &column("entropy")).unwrap();
    // Both seeds are the line y = x, wherever it was measured; both cover 10 to 98.
    assert_eq!((curves[0].x[0], curves[0].x.last(), curves[0].x.len()), (10.0, Some(&98.0), 3));
    assert!(curves[0].x.iter().zip(&curves[0].centre).all(|(x, y)| (x - y).abs() < 1e-9));
    assert!(warnings.is_empty());
    let error = super::curves(&[folder.path().to_owned()], &column("kl")).unwrap_err();
    assert!(format!("{error:#}").contains("no column 'kl' among: agent, env"), "{error:#}");
}

#[test]
fn wall_time_comes_from_the_timing_file() {
    let timing = |rate: f64| {
        let row = |x: u64| format!("a,E,0,{x},{},100\n", x as f64 * rate);
        "agent,env,seed,step,wall_s,steps_per_s\n".to_owned() + &row(50) + &row(100)
    };
    let eval = EVAL.to_owned() + &rows("a", 0, &[(0, 0.0), (25, 25.0), (75, 75.0), (100, 100.0)]);
    let both = [("eval.csv", eval.clone()), ("timing.csv", timing(0.5))];
    let folder1 = folder(&both);
    let options = Options { x: XAxis::Wall, ..Options::default() };
    let (curves, _) = curves(&[folder1.path().join("eval.csv")], &options).unwrap();
    // Two steps a second: value 2 t, at even times up to 50 s.
    assert_eq!(curves[0].x.last(), Some(&50.0));
    assert!(curves[0].x.iter().zip(&curves[0].centre).all(|(x, y)| (2.0 * x - y).abs() < 1e-9));
    let folder2 = folder(&[("eval.csv", eval)]);
    let error = super::curves(&[folder2.path().to_owned()], &options).unwrap_err();
    assert!(format!("{error:#}").contains("wall time needs timing.csv"), "{error:#}");
}

#[test]
fn episodes_are_averaged_over_equal_parts() {
    let mut text = "agent,env,seed,step,episode,agent_index,return,length,terminated,truncated\n".to_owned();
    // 400 episodes of 10 steps, two of them on the same step: bins of 20 steps hold 4.
    for episode in 0..400 {
        let step = 10 * (episode / 2 + 1);
        writeln!(text, "a,E,0,{step},{episode},0,{episode},10,true,false").unwrap();
    }
    let folder = folder(&[("episodes.csv", text)]);
    let (curves, _) = curves(&[folder.path().to_owned()], &column("return")).unwrap();
    assert_eq!(curves[0].x.len(), 100);
    for (i, (x, y)) in curves[0].x.iter().zip(&curves[0].centre).enumerate() {
        assert_eq!((*x, *y), (20.0 * i as f64 + 10.0, 4.0 * i as f64 + 1.5));
    }
}

/// A seed whose first episode ends behind the last one of another shares no range with it; sums of steps may be too large.
#[test]
fn episodes_without_a_range_in_common_are_left_out() {
    let long = "global_step,charts/episodic_return,exp_name,env_id,seed\n100,21.5,ppo,E,7\n200,30,ppo,E,1\n200,9,trpo,E,1\n";
    let dir = folder(&[("long.csv", long.to_owned())]);
    let (curves, warnings) = super::curves(&[dir.path().join("long.csv")], &Options::default()).unwrap();
    assert!(curves.len() == 1 && curves[0].agent == "trpo");
    assert!(
        warnings.iter().any(|w| w.contains("ppo on E: its seeds have no range in common")),
        "{warnings:?}"
    );
    let huge = format!("r,l,t\n1,{0},1\n1,{0},2\n", u64::MAX);
    let dir = folder(&[("monitor.csv", huge)]);
    let error = super::curves(&[dir.path().to_owned()], &Options::default()).unwrap_err().to_string();
    assert!(error.contains("line 3, column 'l'") && error.contains("number of steps"), "{error}");
}

#[test]
fn monitor_files_are_read_as_they_are_called() {
    let monitor = |reward: f64| {
        let head = "#{\"t_start\": 1.5, \"env_id\": \"CartPole-v1\"}\nr,l,t\n".to_owned();
        (0..10).fold(head, |text, i| text + &format!("{},20,{i}.5\n", reward + f64::from(i)))
    };
    let folder = folder(&[
        ("trpo/0.monitor.csv", monitor(0.0)),
        ("trpo/1.monitor.csv", monitor(2.0)),
        ("ppo.monitor.csv", monitor(5.0)),
    ]);
    let (curves, _) = curves(&[folder.path().to_owned()], &Options::default()).unwrap();
    let names: Vec<_> = curves.iter().map(|c| (&*c.env, &*c.agent, c.seeds)).collect();
    assert_eq!(names, [("CartPole-v1", "ppo", 1), ("CartPole-v1", "trpo", 2)]);
    assert_eq!(curves[0].x, (0..10).map(|i| 20.0 * f64::from(i) + 10.0).collect::<Vec<_>>());
    assert_eq!((curves[0].centre[9], curves[1].centre[9]), (14.0, 10.0));
    std::fs::write(folder.path().join("bad.monitor.csv"), "#{}\nr,l,t\n1.0,20,1\n1.0,x,2\n").unwrap();
    let error = super::curves(&[folder.path().join("bad.monitor.csv")], &Options::default()).unwrap_err();
    assert!(format!("{error:#}").contains("line 4, column 'l': 'x' is not a whole number"), "{error:#}");
}

/// Every text of the figure, with its box on the page.
fn texts(group: &usvg::Group, found: &mut Vec<(String, usvg::Rect)>) {
    for node in group.children() {
        match node {
            usvg::Node::Group(group) => texts(group, found),
            usvg::Node::Text(text) => {
                let words = text.chunks().iter().map(usvg::TextChunk::text).collect();
                found.push((words, text.abs_bounding_box()));
            }
            _ => {}
        }
    }
}

fn parsed(svg: &str) -> usvg::Tree {
    let mut options = usvg::Options::default();
    for font in [notosans::REGULAR_TTF, notosans::BOLD_TTF] {
        options.fontdb_mut().load_font_data(font.to_vec());
    }
    usvg::Tree::from_str(svg, &options).unwrap()
}

#[test]
fn no_text_is_clipped_or_overlaps() {
    let many: Vec<String> = (0..14).map(|i| format!("mdpo-variant-{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "an-environment-with-a-name-that-no-panel-can-hold-because-it-is-too-long-v5";
    let envs = ["Ant-v5", "HalfCheetah-v5", "Hopper-v5", long, "Swimmer-v5", "Walker2d-v5", "Z-v0"];
    for panels in 1..=7 {
        for agents in [&["ppo"][..], &["mdpo", "ppo", "trpo"], &many, &[long, "x"]] {
            for scale in [1e-5, 1.0, 450.0, 1e5, 1e12] {
                let title = (panels % 2 == 0).then(|| format!("A title: {long} {long}"));
                let options = Options { title, ..Options::default() };
                let tree = parsed(&svg(&example(&envs[..panels], agents, 21, scale), &options));
                assert!(texts_are_apart(&tree) >= 8 * panels + agents.len());
            }
        }
    }
    for agents in [&["ppo"][..], &["mdpo", "ppo", "trpo"], &many, &[long, "x"]] {
        for panels in 1..=4 {
            let row = |(i, name): (usize, &&str)| {
                let value = 0.3 + 0.1 * i as f64;
                let estimate = stats::across::Estimate { value, low: value - 0.2, high: value + 0.1 };
                IntervalRow { name: (*name).to_owned(), look: (*name).to_owned(), estimate }
            };
            let panel = IntervalPanel {
                title: "optimality gap".to_owned(),
                rows: agents.iter().enumerate().map(row).collect(),
                range: (panels == 1).then_some((0.0, 1.0)),
            };
            let labels = Labels {
                title: Some(long.to_owned()),
                x: "normalised score (of the optimality gap, lower is better)".to_owned(),
                caption: "5 environments x 5 seeds; ".repeat(5),
                ..Labels::default()
            };
            let tree = parsed(&svg::intervals(&vec![panel; panels], &labels));
            assert!(texts_are_apart(&tree) >= 3 * panels + agents.len());
        }
    }
}

/// Number of texts, all of which lie on the page and none on another.
fn texts_are_apart(tree: &usvg::Tree) -> usize {
    let mut found = Vec::new();
    texts(tree.root(), &mut found);
    let page =
        usvg::Rect::from_xywh(2.0, 2.0, tree.size().width() - 4.0, tree.size().height() - 4.0).unwrap();
    for (i, (text, place)) in found.iter().enumerate() {
        let inside = place.left() >= page.left()
            && place.right() <= page.right()
            && place.top() >= page.top()
            && place.bottom() <= page.bottom();
        assert!(inside, "'{text}': {place:?} on {page:?}");
        for (other, there) in &found[i + 1..] {
            let apart = place.right() <= there.left()
                || there.right() <= place.left()
                || place.bottom() <= there.top()
                || there.bottom() <= place.top();
            assert!(apart, "'{text}' and '{other}' overlap: {place:?} {there:?}");
        }
    }
    found.len()
}

#[test]
fn figures_name_what_they_show() {
    let mut curves = example(&["A<&>\"B"], &["ppo", "<x>"], 5, 1.0);
    curves[1].seeds = 9;
    let options = Options { title: Some("a & b".to_owned()), ..Options::default() };
    let figure = svg(&curves, &options);
    assert_eq!(figure, svg(&curves, &options));
    let mut found = Vec::new();
    texts(parsed(&figure).root(), &mut found);
    let has = |text: &str| assert!(found.iter().any(|(t, _)| t == text), "'{text}' not in {found:?}");
    for text in ["A<&>\"B", "<x>", "ppo", "a & b", "environment steps", "greedy evaluation return", "200k"] {
        has(text);
    }
    has("Interquartile mean over 5 to 9 seeds; bands: 95 % bootstrap interval.");
    assert_eq!(figure.matches("fill-opacity").count(), 4, "two bands, two keys");
    curves.iter_mut().for_each(|c| c.seeds = 1);
    let figure = svg(&curves, &options);
    assert!(!figure.contains("fill-opacity"));
    assert!(figure.contains("One seed: no interval."));
}

#[test]
fn agents_keep_their_looks_in_every_panel_and_figure() {
    let mut curves = example(&["A", "B"], &["mdpo", "ppo"], 5, 1.0);
    curves.remove(2);
    // The second panel shows only `ppo`, in the colour it has in the first.
    let figure = svg(&curves, &Options::default());
    let second = figure.split("id=\"panel1\"").nth(1).unwrap().split("</g>").next().unwrap();
    assert!(second.contains("#D55E00") && !second.contains("#0072B2"));
    // And in a figure without `mdpo`.
    assert_eq!(svg::looks(&["mdpo", "ppo", "trpo"]), [0, 1, 2]);
    assert_eq!(svg::looks(&["ppo", "trpo"]), [1, 2]);
    // Names that nobody knows: the same look alone and in company, and no look twice.
    let alone = svg::looks(&["mine"])[0];
    assert_eq!(svg::looks(&["mine", "ppo"])[0], alone);
    let many: Vec<String> = (0..24).map(|i| format!("agent-{i:02}")).collect();
    let mut looks = svg::looks(&many.iter().map(String::as_str).collect::<Vec<_>>());
    looks.sort_unstable();
    assert_eq!(looks, (0..24).collect::<Vec<_>>());
    assert_eq!(svg::looks(&["a"; 30]).len(), 30);
}

/// Two agents on two tasks of the built-in scales; `value(agent, seed)` is the share of the way from random to reference.
fn suite(value: impl Fn(usize, u64) -> f64) -> tempfile::TempDir {
    let scales = crate::summary::across::scales(None).unwrap();
    let mut text = EVAL.to_owned();
    for (a, agent) in ["mdpo", "ppo"].iter().enumerate() {
        for (env, steps) in [("Pendulum-v1", 1000), ("CartPole-v1", 2000)] {
            for seed in 0..5 {
                for i in 0..=2 {
                    let scale = &scales[env];
                    let share = value(a, seed) * f64::from(i) / 2.0;
                    let y = scale.random + share * (scale.reference - scale.random);
                    writeln!(text, "{agent},{env},{seed},{},10,{y}", steps / 2 * i).unwrap();
                }
            }
        }
    }
    folder(&[("eval.csv", text)])
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn figures_across_environments_show_the_statistics() {
    let scales = crate::summary::across::scales(None).unwrap();
    let folder = suite(|agent, seed| 0.5 + 0.25 * agent as f64 + 0.01 * seed as f64);
    let paths = [folder.path().to_owned()];
    let (Figure::Lines(curves, labels), warnings) = kinds::aggregate(&paths, &scales).unwrap() else {
        panic!()
    };
    assert_eq!(warnings, Vec::<String>::new());
    // Budgets differ: percent. The IQM of 0.50 .. 0.54, twice, is 0.52, and grows in proportion.
    assert_eq!(curves[0].x, [0.0, 50.0, 100.0]);
    let expected = [0.0, 0.26, 0.52];
    assert!(curves[0].centre.iter().zip(expected).all(|(a, b)| near(*a, b)), "{:?}", curves[0].centre);
    assert!(labels.caption.contains("2 environments x 5 seeds"), "{}", labels.caption);

    let bootstrap =
        stats::across::Bootstrap { method: stats::across::Method::Percentile, resamples: 200, seed: 0 };
    let (figure, _) = kinds::intervals(&paths, Score::Final, &scales, bootstrap).unwrap();
    let Figure::Intervals(panels, _) = &figure else { panic!() };
    assert_eq!(
        panels.iter().map(|p| p.title.as_str()).collect::<Vec<_>>(),
        ["IQM", "median", "mean", "optimality gap"]
    );
    assert_eq!(panels[0].rows[0].name, "ppo", "best first");
    assert!(near(panels[0].rows[0].estimate.value, 0.77) && near(panels[3].rows[0].estimate.value, 0.23));
    assert!(figure.terminal(false).is_none());

    let (Figure::Lines(curves, _), _) = kinds::profiles(&paths, Score::Final, &scales).unwrap() else {
        panic!()
    };
    let at = |x: f64| curves[1].x.iter().position(|t| near(*t, x)).unwrap();
    assert_eq!((curves[1].centre[at(0.7)], curves[1].centre[at(0.9)]), (1.0, 0.0));

    let (Figure::Intervals(panels, _), _) =
        kinds::improvement(&paths, Score::Final, Some("mdpo"), bootstrap).unwrap()
    else {
        panic!()
    };
    assert_eq!((panels[0].rows[0].name.as_str(), panels[0].rows[0].estimate.value), ("ppo > mdpo", 1.0));
}

#[test]
fn a_sensitivity_is_drawn_over_the_values_of_an_option() {
    let cell = |label: &str, m: u64, seed: u64| {
        format!(
            "[settings]\nlabel = \"{label}\"\nagent = \"mdpo\"\npreset = \"default\"\nenv = \"E\"\nseed = {seed}\n\
             steps = 10\nevaluations = 1\neval_episodes = 1\nfinal_episodes = 1\ndevice = \"cpu\"\n\
             [settings.options]\nm = {m}\nname = \"x\"\n\
             [provenance]\nversion = \"\"\ngit = \"\"\nburn = \"\"\nhost = \"\"\ncommand = \"\"\n"
        )
    };
    let mut files = Vec::new();
    let names: Vec<(String, u64)> = [1, 5, 40].map(|m| (format!("m{m}"), m)).to_vec();
    for (label, m) in &names {
        for seed in 0..4 {
            let value = (10 * m + seed) as f64;
            files.push((format!("{label}/E/seed-{seed}/run.toml"), cell(label, *m, seed)));
            files.push((
                format!("{label}/E/seed-{seed}/eval.csv"),
                EVAL.to_owned() + &rows(label, seed, &[(0, 0.0), (10, value)]),
            ));
        }
    }
    let files: Vec<(&str, String)> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let folder = folder(&files);
    let paths = [folder.path().to_owned()];
    let (Figure::Lines(curves, labels), _) = kinds::sensitivity(&paths, Score::Final, "m").unwrap() else {
        panic!()
    };
    let [curve] = &curves[..] else { panic!("{curves:?}") };
    assert_eq!((curve.agent.as_str(), curve.seeds, &curve.centre), ("mdpo", 4, &vec![11.5, 51.5, 401.5]));
    // A factor of 40: logarithmic, ticks at the values.
    assert_eq!(curve.x, [0.0, 5f64.log10(), 40f64.log10()]);
    let ticks: Vec<String> = labels.ticks.clone().unwrap().into_iter().map(|t| t.1).collect();
    assert_eq!(
        (labels.x.as_str(), ticks),
        ("m (logarithmic)", vec!["1".to_owned(), "5".to_owned(), "40".to_owned()])
    );
    texts_are_apart(&parsed(&svg::lines(&curves, &labels)));
    // A collected suite has a manifest instead of run folders; both versions of its lines are read.
    for nested in [false, true] {
        let (mut manifest, mut eval) = ("{}\n".to_owned(), EVAL.to_owned());
        for (i, (label, m)) in names.iter().enumerate() {
            let settings = format!(
                "{{\"label\":\"{label}\",\"agent\":\"mdpo\",\"preset\":\"default\",\"env\":\"E\",\"seed\":0,\"steps\":10,\
                 \"evaluations\":1,\"eval_episodes\":1,\"final_episodes\":1,\"device\":\"cpu\",\"options\":{{\"m\":{m}}}}}"
            );
            let nest = format!("{{\"index\":{i},\"settings\":{settings}}}");
            manifest += &format!("{}\n", if nested { nest } else { settings });
            eval += &rows(label, 0, &[(0, 0.0), (10, 10.0 * *m as f64)]);
        }
        let suite = super::tests::folder(&[("manifest.jsonl", manifest), ("eval.csv", eval)]);
        let paths = [suite.path().to_owned()];
        let (Figure::Lines(curves, _), _) = kinds::sensitivity(&paths, Score::Final, "m").unwrap() else {
            panic!()
        };
        assert_eq!(curves[0].centre, [10.0, 50.0, 400.0]);
    }
    let error = |option| kinds::sensitivity(&paths, Score::Final, option).err().unwrap().to_string();
    assert!(
        error("k").contains("no run with a score has an option 'k'; options here: m, name"),
        "{}",
        error("k")
    );
    assert!(error("name").contains("no number"), "{}", error("name"));
}

#[test]
fn a_sensitivity_has_a_line_for_each_agent_of_a_search() {
    let (mut manifest, mut eval) = ("{}\n".to_owned(), EVAL.to_owned());
    let mut add = |label: &str, m: u64, value: f64| {
        manifest += &format!(
            "{{\"settings\":{{\"label\":\"{label}\",\"agent\":\"mdpo\",\"preset\":\"default\",\"env\":\"E\",\"seed\":0,\"steps\":10,\
             \"evaluations\":1,\"eval_episodes\":1,\"final_episodes\":1,\"device\":\"cpu\",\"options\":{{\"m\":{m}}}}}}}\n"
        );
        eval += &rows(label, 0, &[(0, 0.0), (10, value)]);
    };
    for m in [1, 5] {
        add(&format!("mdpo+m={m}+lr=0.1"), m, 10.0);
        add(&format!("mdpo+m={m}+lr=0.2"), m, 20.0);
        add(&format!("wide+m={m}+lr=0.1"), m, 70.0);
    }
    // Not selected: that its option is no number does no harm.
    add("odd", 0, 30.0);
    let manifest = manifest.replace("\"m\":0", "\"m\":\"none\"");
    let suite = folder(&[("manifest.jsonl", manifest), ("eval.csv", eval)]);
    let paths = [suite.path().to_owned()];
    assert!(kinds::sensitivity(&paths, Score::Final, "m").is_err());
    let agents = [1, 5].iter().flat_map(|m| {
        ["mdpo+m=M+lr=0.1", "mdpo+m=M+lr=0.2", "wide+m=M+lr=0.1"].map(|s| s.replace('M', &m.to_string()))
    });
    let of = Selection { agents: agents.collect(), ..Selection::from(&paths) };
    let (Figure::Lines(curves, _), warnings) = kinds::sensitivity(of, Score::Final, "m").unwrap() else {
        panic!()
    };
    let lines: Vec<(&str, &[f64])> = curves.iter().map(|c| (c.agent.as_str(), &c.centre[..])).collect();
    assert_eq!(lines, [("mdpo", &[15.0, 15.0][..]), ("wide", &[70.0, 70.0])]);
    assert_eq!(
        warnings.last().unwrap(),
        "E, mdpo: pooled over what differs beside m; mdpo+m=1+lr=0.1 and mdpo+m=1+lr=0.2 both have 1"
    );
}

#[test]
fn a_pdf_has_a_page_whose_parts_are_where_they_say() {
    let curves = example(&["A", "B"], &["mdpo", "ppo"], 21, 1.0);
    let tree = parsed(&svg(&curves, &Options::default()));
    let file = pdf::pdf(&tree).unwrap();
    assert_eq!(file, pdf::pdf(&tree).unwrap());
    let find =
        |text: &[u8], from: usize| from + file[from..].windows(text.len()).position(|w| w == text).unwrap();
    let text = String::from_utf8_lossy(&file).into_owned();
    let page = format!("/MediaBox [0 0 {} {}]", 0.75 * tree.size().width(), 0.75 * tree.size().height());
    assert!(text.starts_with("%PDF-1.4") && text.ends_with("%%EOF\n") && text.contains(&page));
    // The table at the end says where each object begins.
    let table = find(b"xref\n", 0);
    let rows = std::str::from_utf8(&file[table..]).unwrap().lines().skip(3);
    for (i, row) in rows.take(4).enumerate() {
        let place: usize = row[..10].parse().unwrap();
        assert!(file[place..].starts_with(format!("{} 0 obj\n", i + 1).as_bytes()), "{row}");
    }
    let (start, end) = (find(b"stream\n", 0) + 7, find(b"\nendstream", 0));
    let mut content = String::new();
    std::io::Read::read_to_string(&mut flate2::read::ZlibDecoder::new(&file[start..end]), &mut content)
        .unwrap();
    let count = |operator: &str| {
        content.lines().filter(|l| *l == operator || l.ends_with(&format!(" {operator}"))).count()
    };
    assert_eq!(count("q"), count("Q"));
    // Two panels are clipped; letters are filled curves.
    assert_eq!(count("W n"), 2);
    assert!(count("f") > 100 && count("S") > 20 && count("c") > 1000);
}

#[test]
fn extreme_numbers_still_give_a_figure() {
    for value in [0.0, 1e-300, 1e308, -1e308, f64::INFINITY, f64::NAN] {
        for points in [1, 3] {
            let mut curves = example(&["E"], &["a", "b"], points, 1.0);
            curves[0].centre[0] = value;
            curves[0].high[0] = value;
            let figure = svg(&curves, &Options::default());
            parsed(&figure);
            assert!(!figure.contains("NaN") && !figure.contains("inf"), "{value}");
            assert!(!terminal(&curves, &Options::default(), false).is_empty());
        }
    }
    assert!(svg(&[], &Options::default()).ends_with("</svg>\n"));
}

#[test]
fn files_are_written_whole_in_the_format_of_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let curves = example(&["A", "B"], &["a", "b"], 21, 1.0);
    let path = |name: &str| folder.path().join(name);
    for name in ["f.svg", "f.png", "g.PNG", "f.pdf"] {
        write(&path(name), &curves, &Options::default()).unwrap();
    }
    let figure = std::fs::read_to_string(path("f.svg")).unwrap();
    assert_eq!(figure, svg(&curves, &Options::default()));
    let image = std::fs::read(path("f.png")).unwrap();
    assert_eq!(image, std::fs::read(path("g.PNG")).unwrap());
    let image = resvg::tiny_skia::Pixmap::decode_png(&image).unwrap();
    let size = parsed(&figure).size();
    assert_eq!(
        (image.width(), image.height()),
        ((2.0 * size.width()).ceil() as u32, (2.0 * size.height()).ceil() as u32)
    );
    // Text is there: the dark ink of letters left of the panels.
    let dark = |p: &&resvg::tiny_skia::PremultipliedColorU8| p.red() < 60 && p.green() < 60 && p.blue() < 60;
    let columns = image.pixels().chunks(image.width() as usize).flat_map(|row| &row[..60]);
    assert!(columns.filter(dark).count() > 300);
    for name in ["f.jpg", "f"] {
        let error = write(&path(name), &curves, &Options::default()).unwrap_err();
        assert!(error.to_string().ends_with("a figure is .svg, .png or .pdf"), "{error}");
    }
    let error = write(&path("no/f.svg"), &curves, &Options::default()).unwrap_err();
    assert!(error.to_string().contains("does its folder exist?"), "{error}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 4);
}

#[test]
fn terminal_figures_fit_and_tell_agents_apart() {
    let curves = example(&["A", "B"], &["mdpo", "ppo"], 21, 450.0);
    let plain = terminal(&curves, &Options::default(), false);
    assert!(plain.lines().all(|line| line.chars().count() <= 80), "{plain}");
    assert!(!plain.contains('\x1b'));
    for text in ["A: greedy evaluation return", "a mdpo", "b ppo", "environment steps", "1M", "over 5 seeds"]
    {
        assert!(plain.contains(text), "{text}: {plain}");
    }
    let colored = terminal(&curves, &Options::default(), true);
    assert!(colored.contains("\x1b[38;5;33ma\x1b[0m mdpo") && colored.contains("\x1b[38;5;202mb\x1b[0m ppo"));
}

#[test]
fn a_rising_line_rises_in_the_terminal() {
    let line = |y: [f64; 2]| Curve {
        x: vec![0.0, 1e6],
        centre: y.to_vec(),
        low: y.to_vec(),
        high: y.to_vec(),
        ..example(&["E"], &["a"], 2, 1.0).remove(0)
    };
    let first_dots = |y| {
        let text = terminal(&[line(y)], &Options::default(), false);
        // The row of the left end: the letter stands on it.
        text.lines().skip(1).position(|row| row.chars().nth(9) == Some('a')).unwrap()
    };
    assert!(first_dots([0.0, 1.0]) > first_dots([1.0, 0.0]) + 10);
}

proptest! {
    #[test]
    fn interpolation_goes_through_its_points(ys in prop::collection::vec(-1e3..1e3f64, 2..20), share in 0.0..1f64) {
        let points: Vec<(f64, f64)> = ys.iter().enumerate().map(|(i, y)| (i as f64, *y)).collect();
        for (x, y) in &points {
            prop_assert!((interpolate(&points, *x) - y).abs() < 1e-9);
        }
        let between = interpolate(&points, share);
        prop_assert!((between - (ys[0] + share * (ys[1] - ys[0]))).abs() < 1e-9);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), monitor: bool, header: bool) {
        let start: &[u8] = match (monitor, header) {
            (true, true) => b"#{\"env_id\": \"E\"}\nr,l,t\n",
            (true, false) => b"#",
            (false, true) => EVAL.as_bytes(),
            (false, false) => b"",
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        std::fs::write(&path, [start, &bytes].concat()).unwrap();
        // What matters is that this returns.
        if let Ok((curves, _)) = curves(&[path], &Options::default()) {
            prop_assert!(svg(&curves, &Options::default()).ends_with("</svg>\n"));
        }
    }

    #[test]
    fn damaged_cells_are_read_or_refused(cells in prop::collection::vec("[0-9a-zNI.,+-]{0,9}(\n)?", 0..40)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eval.csv");
        std::fs::write(&path, EVAL.to_owned() + "a,E,0,0,10,1.5\n" + &cells.join(",")).unwrap();
        if let Ok((curves, _)) = curves(&[path], &Options::default()) {
            prop_assert!(svg(&curves, &Options::default()).ends_with("</svg>\n"));
        }
    }
}

#[test]
fn cells_written_after_the_last_collection_are_read_instead_of_it() {
    use std::time::{Duration, SystemTime};

    let collected = EVAL.to_owned() + &rows("ppo", 0, &[(0, 1.0)]);
    let more = |seed| EVAL.to_owned() + &rows("ppo", seed, &[(0, 2.0), (5, 3.0)]);
    let folder = folder(&[
        ("eval.csv", collected),
        ("ppo/E/seed-0/eval.csv", more(0)),
        ("ppo/E/seed-1/eval.csv", more(1)),
        // As `steadfast export sb3 --out` may have left it.
        ("sb3/ppo/0.monitor.csv", "#{}\nr,l,t\n1,1,1\n".to_owned()),
    ]);
    let now = SystemTime::now();
    let age = |name: &str, seconds: u64| {
        let file = std::fs::File::options().append(true).open(folder.path().join(name)).unwrap();
        file.set_modified(now - Duration::from_secs(seconds)).unwrap();
    };
    let read = || {
        let runs = read::runs(&[folder.path().to_owned()], "return_mean").unwrap();
        runs.iter().map(|run| (run.seed, run.y.len())).collect::<Vec<_>>()
    };
    age("eval.csv", 10);
    age("ppo/E/seed-0/eval.csv", 20);
    age("ppo/E/seed-1/eval.csv", 10);
    assert_eq!(read(), [(0, 1)]);
    age("ppo/E/seed-1/eval.csv", 5);
    assert_eq!(read(), [(0, 2), (1, 2)]);
}
