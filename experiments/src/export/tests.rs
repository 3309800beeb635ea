use super::*;
use crate::plot::{Options, XAxis, curves};

/// A run folder with two iterations, four episodes (the last of two agents), two evaluations.
fn run(folder: &Path, agent: &str, seed: u64) {
    let place = folder.join(agent).join("E").join(format!("seed-{seed}"));
    std::fs::create_dir_all(&place).unwrap();
    let key = format!("{agent},E,{seed}");
    let write = |name: &str, text: String| std::fs::write(place.join(name), text).unwrap();
    write(
        "episodes.csv",
        format!(
            "agent,env,seed,step,episode,agent_index,return,length,terminated,truncated\n{key},10,0,0,1.5,10,true,false\n\
             {key},20,1,0,2.5,10,true,false\n{key},20,2,0,3.5,5,true,false\n{key},30,3,0,1,10,true,false\n\
             {key},30,3,1,2,10,true,false\n"
        ),
    );
    write(
        "eval.csv",
        format!(
            "agent,env,seed,step,episodes,return_mean,length_mean\n{key},0,5,-1.25,9\n{key},40,5,{}.75,11\n",
            seed + 1
        ),
    );
    write(
        "train.csv",
        format!(
            "agent,env,seed,step,iteration,policy_loss,value_loss,kl,entropy,clip_fraction,explained_variance,learning_rate,\
                 action_std,temperature\n{key},20,1,0.5,,0.01,1.5,,,0.001,,\n{key},40,2,0.25,,0.02,1.25,,,0.001,,\n"
        ),
    );
    write("timing.csv", format!("agent,env,seed,step,wall_s,steps_per_s\n{key},0,0.5,0\n{key},40,4.5,10\n"));
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (agent, seed) in [("ppo", 0), ("ppo", 1), ("trpo", 0)] {
        run(folder.path(), agent, seed);
    }
    folder
}

fn written(files: &Files) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

#[test]
fn episodes_of_several_agents_are_one_and_time_is_interpolated() {
    let folder = folder();
    let paths = [folder.path().to_owned()];
    let all = episodes(&paths).unwrap();
    let found = &all[&("ppo".to_owned(), "E".to_owned(), 1)];
    assert_eq!(found.len(), 4);
    assert_eq!(found[3], Episode { step: 30, total: 3.0, length: 10 });
    let timing = columns(&paths, "timing.csv", "wall_s").unwrap();
    let key = ("ppo".to_owned(), "E".to_owned(), 0);
    assert_eq!([0, 10, 40, 50].map(|step| seconds(&timing, &key, step)), [0.5, 1.5, 4.5, 4.5]);
    assert_eq!(seconds(&Columns::new(), &key, 10), 0.0);
}

#[test]
fn monitor_and_progress_files_are_as_stable_baselines_writes_them() {
    let folder = folder();
    let files = sb3(&[folder.path().to_owned()]).unwrap();
    assert_eq!(files.len(), 6);
    let text = |name: &str| {
        let (_, bytes) = files.iter().find(|f| f.0 == Path::new(name)).unwrap();
        String::from_utf8(bytes.clone()).unwrap()
    };
    assert_eq!(
        text("ppo/E_1/0.monitor.csv"),
        "#{\"t_start\":0.0,\"env_id\":\"E\"}\nr,l,t\n1.500000,10,1.500000\n2.500000,10,2.500000\n3.500000,5,2.500000\n\
         3.000000,10,3.500000\n"
    );
    let progress = text("ppo/E_1/progress.csv");
    let mut lines = progress.lines();
    assert!(lines.next().unwrap().starts_with(
        "time/total_timesteps,time/time_elapsed,rollout/ep_rew_mean,rollout/ep_len_mean,eval/mean_reward,"
    ));
    // An evaluation at 0; an iteration at 20 (three episodes); both at 40 (four).
    assert_eq!(lines.next(), Some("0,0.500,,,-1.25,9,,,,,,,,,"));
    assert_eq!(lines.next(), Some("20,2.500,2.5,8.333333333333334,,,0.5,,0.01,-1.5,,,0.001,,"));
    assert_eq!(lines.next(), Some("40,4.500,2.625,8.75,2.75,11,0.25,,0.02,-1.25,,,0.001,,"));
    // And back, by names and folders alone.
    let there = written(&files);
    let path = |agent: &str, seed: u64| there.path().join(agent).join(format!("E_{seed}/progress.csv"));
    let paths = [path("ppo", 0), path("ppo", 1), path("trpo", 0)];
    let read = read::runs(&paths, "return_mean").unwrap();
    let names: Vec<_> = read.iter().map(|r| (r.agent.as_str(), r.env.as_str(), r.seed)).collect();
    assert_eq!(names, [("ppo", "E", 0), ("ppo", "E", 1), ("trpo", "E", 0)]);
    assert_eq!((&read[1].x, &read[1].y), (&vec![0.0, 40.0], &vec![-1.25, 2.75]));
    assert_eq!(read::runs(&paths, "return").unwrap()[0].y, [2.5, 2.625]);
    assert_eq!(read::runs(&paths, "train/entropy_loss").unwrap()[0].y, [-1.5, -1.25]);
    let error = format!("{:#}", read::runs(&paths, "train/loss").unwrap_err());
    assert!(error.contains("no column 'train/loss' among: time/total_timesteps"), "{error}");
}

#[test]
fn the_long_csv_and_bare_episodes_are_read_back() {
    let folder = folder();
    let paths = [folder.path().to_owned()];
    let text = openrlbenchmark(&paths).unwrap();
    assert!(text.starts_with(
        "exp_name,env_id,seed,global_step,charts/episodic_return,charts/episodic_length\nppo,E,0,10,1.5,10\n"
    ));
    let there = tempfile::tempdir().unwrap();
    let long = there.path().join("long.csv");
    std::fs::write(&long, &text).unwrap();
    let read = read::runs(std::slice::from_ref(&long), "return").unwrap();
    assert_eq!(
        (read.len(), &read[2].x, &read[2].y),
        (3, &vec![10.0, 20.0, 20.0, 30.0], &vec![1.5, 2.5, 3.5, 3.0])
    );
    // As pandas writes it, with a logged loss on a row of its own.
    std::fs::write(
        &long,
        "global_step,seed,exp_name,env_id,losses/entropy,charts/episodic_return\n5.0,1,ppo,E,0.5,\n6.0,1,ppo,E,,2.0\n",
    )
    .unwrap();
    assert_eq!(read::runs(std::slice::from_ref(&long), "return").unwrap()[0].y, [2.0]);
    assert_eq!(read::runs(std::slice::from_ref(&long), "losses/entropy").unwrap()[0].x, [5.0]);
    let (drawn, _) = curves(&[long], &Options { x: XAxis::Step, ..Options::default() }).unwrap();
    assert_eq!((drawn[0].agent.as_str(), drawn[0].env.as_str()), ("ppo", "E"));
    // Gymnasium's RecordEpisodeStatistics as people write it.
    let bare = there.path().join("sac").join("3.csv");
    std::fs::create_dir_all(bare.parent().unwrap()).unwrap();
    std::fs::write(&bare, "r,l,t\n-3.5,7,0.1\n2,8,0.2\n").unwrap();
    let read = read::runs(&[bare], "return").unwrap();
    assert_eq!((read[0].agent.as_str(), read[0].seed, &read[0].x), ("sac", 3, &vec![7.0, 15.0]));
}

#[test]
fn marl_evals_json_nests_task_algorithm_seed_step() {
    let folder = folder();
    let json: serde_json::Value =
        serde_json::from_str(&marl_eval(&[folder.path().to_owned()]).unwrap()).unwrap();
    let run = &json["steadfast"]["E"]["ppo"]["seed_1"];
    assert_eq!(run["step_1"], json!({ "step_count": 40, "return": [2.75] }));
    assert_eq!(run["absolute_metrics"], json!({ "return": [2.75] }));
    assert_eq!(json["steadfast"]["E"].as_object().unwrap().len(), 2);
}

#[test]
fn event_files_are_framed_and_checked() {
    // CRC-32C of "123456789" is e3069283; of no bytes 0 (RFC 3720 gives zeros as 8a9136aa for 32 of them).
    let masked_of = |crc: u32| crc.rotate_right(15).wrapping_add(0xa282_ead8);
    assert_eq!(masked(b"123456789"), masked_of(0xe306_9283));
    assert_eq!(masked(&[0; 32]), masked_of(0x8a91_36aa));
    assert_eq!((varint(1), varint(300)), (vec![1], vec![0xac, 2]));
    let folder = folder();
    let files = tensorboard(&[folder.path().to_owned()]).unwrap();
    assert_eq!(files.len(), 3);
    assert_eq!(files[0].0, Path::new("ppo/E/seed-0/events.out.tfevents.0000000000.steadfast"));
    let (mut at, mut found) = (0, Vec::new());
    let file = &files[1].1;
    while at < file.len() {
        let length = u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
        let sum = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        assert_eq!(sum(at + 8), masked(&file[at..at + 8]));
        let data = &file[at + 12..at + 12 + length];
        assert_eq!(sum(at + 12 + length), masked(data));
        found.push(data.to_vec());
        at += 16 + length;
    }
    assert!(found[0].ends_with(b"\x1a\x0dbrain.Event:2"));
    // Two evaluations and lengths, two iterations of four metrics and two running means.
    assert_eq!(found.len(), 1 + 2 * 2 + 2 * 4 + 2 * 2);
    let second = found.iter().filter(|d| d.windows(16).any(|w| w == b"eval/mean_reward")).nth(1).unwrap();
    assert!(second.ends_with(&2.75f32.to_le_bytes()));
    // Second 4.5 of step 40.
    assert_eq!(second[..11], [&[9u8][..], &4.5f64.to_le_bytes(), &[0x10, 40]].concat());
}

#[test]
fn parquet_has_the_cells_of_the_csv_with_their_types() {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::Field;

    let folder = folder();
    // A run of an older version, without two columns.
    let old = "agent,env,seed,step,iteration,kl\ndqn,E,0,5,1,NaN\n";
    std::fs::create_dir_all(folder.path().join("zzz")).unwrap();
    std::fs::write(folder.path().join("zzz/train.csv"), old).unwrap();
    // A run that finished no episode leaves an empty file.
    std::fs::write(folder.path().join("zzz/episodes.csv"), "").unwrap();
    let paths = [folder.path().to_owned()];
    let files = parquet::parquet(&paths).unwrap();
    let names: Vec<_> = files.iter().map(|f| f.0.display().to_string()).collect();
    assert_eq!(names, ["episodes.parquet", "eval.parquet", "train.parquet", "timing.parquet"]);
    assert_eq!(files, parquet::parquet(&paths).unwrap(), "the same input gives the same bytes");
    let (mut cells, out) = (0, written(&files));
    for (name, _) in files {
        // As the CSV says it: the columns of the first file, rows of all.
        let sources = read::files(folder.path(), &name.with_extension("csv").display().to_string()).unwrap();
        let mut expected = Vec::new();
        for source in sources {
            for row in csv::Reader::from_path(source).unwrap().deserialize::<BTreeMap<String, String>>() {
                expected.push(row.unwrap());
            }
        }
        let file = std::fs::File::open(out.path().join(&name)).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), expected.len(), "{name:?}");
        for (row, expected) in rows.iter().zip(&expected) {
            for (column, field) in row.get_column_iter() {
                let text = expected.get(column).map_or("", String::as_str);
                let whole = ["seed", "step", "episode", "episodes", "agent_index", "length", "iteration"];
                match field {
                    Field::Null => assert_eq!(text, "", "{column}"),
                    Field::Str(s) => assert!(s == text && ["agent", "env"].contains(&column.as_str())),
                    Field::Long(i) => assert!(i.to_string() == text && whole.contains(&column.as_str())),
                    Field::Bool(b) => assert!(b.to_string() == text && column.ends_with("ated")),
                    Field::Double(x) => {
                        assert_eq!(x.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{column}")
                    }
                    other => panic!("{column}: {other}"),
                }
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 15 * 10 + 6 * 7 + 7 * 14 + 6 * 6);
    std::fs::write(folder.path().join("zzz/eval.csv"), "agent,env,seed,step\nppo,E,zero,5\n").unwrap();
    let error = format!("{:#}", parquet::parquet(&paths).unwrap_err());
    assert!(
        error.contains("line 2, column 'seed'") && error.contains("'zero' is not a whole number"),
        "{error}"
    );
}
