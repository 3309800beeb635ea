//! Scripts with which other engines run the cells of a planned sweep. Each task is `steadfast sweep cell`, which finds its number
//! in the engine's variable; submitting stays with the user, but for `sweep submit slurm`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::plan::Manifest;
use crate::cli::quoted;

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// A job array for `sbatch`
    Slurm,
    /// A task array for `hq`
    #[value(alias = "hq")]
    Hyperqueue,
    /// GNU parallel, on this machine or over SSH
    Parallel,
    /// An Indexed Job for `kubectl apply`
    #[value(alias = "k8s")]
    Kubernetes,
}

/// What scripts may be told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Most tasks; where there are more cells, each task runs several
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tasks: u32,
    /// Most tasks at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrent: Option<u32>,
    /// Time limit of a task, as Slurm writes it
    #[arg(long, default_value = "24:00:00", value_name = "[D-]H:M:S")]
    time: String,
    /// Seconds between the notice that a task must stop and its end
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    grace: u32,
    /// Seconds without an iteration after which a cell counts as hanging [default: none]
    #[arg(long, value_name = "SECONDS", value_parser = crate::cli::seconds)]
    timeout: Option<Duration>,
    /// Further option of the engine, such as --option=--partition=long; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    option: Vec<String>,
    /// Program on the nodes [default: this one]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Container image with the program, for Kubernetes
    #[arg(long)]
    image: Option<String>,
    /// Persistent volume claim that holds the sweep's folder, for Kubernetes
    #[arg(long)]
    claim: Option<String>,
}

/// The script of `engine` for the sweep in `folder`.
///
/// # Errors
/// When the folder has no absolute path, or something that the engine needs is not given.
pub fn script(engine: Engine, manifest: &Manifest, folder: &Path, options: &Options) -> Result<String> {
    let folder = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
    let cells = manifest.cells.len();
    let tasks = cells.min(options.tasks as usize);
    let mut share = String::new();
    if tasks < cells {
        write!(share, " --stride {tasks}")?;
    }
    if let Some(timeout) = options.timeout {
        write!(share, " --timeout {}", timeout.as_secs_f64())?;
    }
    let binary = match (&options.binary, engine) {
        (Some(path), _) => path.clone(),
        (None, Engine::Kubernetes) => PathBuf::from("steadfast"),
        (None, _) => std::env::current_exe().context("cannot find this program's own file")?,
    };
    let text = |path: &Path| quoted(&path.to_string_lossy());
    let job = Job {
        name: format!("steadfast-{}", manifest.suite),
        last: tasks.saturating_sub(1),
        tasks,
        cell: format!(
            "{} sweep cell --manifest {} --plan {}{share}",
            text(&binary),
            text(&Manifest::path(&folder)),
            manifest.hash
        ),
        folder,
        options,
    };
    match engine {
        Engine::Slurm => Ok(job.slurm()),
        Engine::Hyperqueue => Ok(job.hyperqueue()),
        Engine::Parallel => Ok(job.parallel()),
        Engine::Kubernetes => job.kubernetes(&manifest.hash, &share),
    }
}

struct Job<'a> {
    name: String,
    /// Number of the last task, from 0.
    last: usize,
    tasks: usize,
    /// Command of a task, for a shell.
    cell: String,
    folder: PathBuf,
    options: &'a Options,
}

impl Job<'_> {
    fn log(&self, name: &str) -> String {
        quoted(&self.folder.join(name).to_string_lossy())
    }

    /// The engine's further options, behind a blank each.
    fn more(&self) -> String {
        self.options.option.iter().map(|option| format!(" {}", quoted(option))).collect()
    }

    fn slurm(&self) -> String {
        let Options { time, grace, concurrent, option, .. } = self.options;
        let at_a_time = concurrent.map_or(String::new(), |n| format!("%{n}"));
        let more: String = option.iter().map(|option| format!("#SBATCH {option}\n")).collect();
        format!(
            r#"#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}{at_a_time}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --time={time}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@{grace}
#SBATCH --output={log}
{more}
{cell} &
cell=$!
# Time is nearly up, or the task is preempted: the cell checkpoints, and exits with 75 for "try again".
trap 'again=yes; kill -USR1 "$cell" 2>/dev/null' USR1
trap 'kill -TERM "$cell" 2>/dev/null' TERM
while kill -0 "$cell" 2>/dev/null; do wait "$cell"; done
wait "$cell"
code=$?
if [ "$code" -eq 75 ] && [ "$again" = yes ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"#,
            name = self.name,
            last = self.last,
            log = self.log("slurm-%A_%a.log"),
            cell = self.cell,
        )
    }

    fn hyperqueue(&self) -> String {
        format!(
            "#!/bin/bash\n# A server and workers must be running: `hq server start`, and `hq worker start` or `hq alloc add \
             slurm`.\n# Tasks of a worker that dies are started again. Start this script again for those that failed: \
             complete\n# cells end at once.\nexec hq submit --name={} --array=0-{} --cpus=1 --stdout={} --stderr={}{} \
             \"$@\" -- \\\n    {}\n",
            self.name,
            self.last,
            self.log("hq-%{JOB_ID}-%{TASK_ID}.log"),
            self.log("hq-%{JOB_ID}-%{TASK_ID}.err"),
            self.more(),
            self.cell
        )
    }

    fn parallel(&self) -> String {
        let jobs = self.options.concurrent.map_or(String::new(), |n| format!(" --jobs {n}"));
        format!(
            "#!/bin/bash\n# Options go through: `--sshloginfile hosts` runs on machines that share the folder. The exit code is \
             the number\n# of tasks that failed three times; start this again for those: complete cells end at once.\nseq 0 \
             {} |\n    parallel{jobs} --joblog {} --retries 3 --termseq USR1,{},TERM,1000,KILL,25{} \"$@\" \\\n    {} --index \
             '{{}}'\n",
            self.last,
            self.log("parallel.log"),
            u64::from(self.options.grace) * 1000,
            self.more(),
            quoted(&self.cell),
        )
    }

    fn kubernetes(&self, hash: &str, share: &str) -> Result<String> {
        let (Some(image), Some(claim)) = (&self.options.image, &self.options.claim) else {
            bail!(
                "Kubernetes needs --image IMAGE and --claim NAME of the volume that holds {}",
                self.folder.display()
            );
        };
        if !self.options.option.is_empty() {
            bail!("--option has no meaning for Kubernetes; edit what is printed");
        }
        let binary = self.options.binary.as_deref().unwrap_or(Path::new("steadfast"));
        let arguments: Vec<String> = ["sweep", "cell", "--manifest", "/sweep/manifest.jsonl", "--plan", hash]
            .into_iter()
            .chain(share.split_whitespace())
            .map(|word| format!("\"{word}\""))
            .collect();
        Ok(format!(
            r#"# The claim must hold the files of {folder} at its root.
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
spec:
  completionMode: Indexed
  completions: {tasks}
  parallelism: {parallelism}
  backoffLimitPerIndex: 3
  maxFailedIndexes: {tasks}
  podFailurePolicy:
    rules:
      # A node that goes away and a cell that asks for another try (75) count as no failure; bad input (2) is never tried again.
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
      - action: Ignore
        onExitCodes: {{operator: In, values: [75]}}
      - action: FailIndex
        onExitCodes: {{operator: In, values: [2]}}
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: {grace}
      containers:
        - name: cell
          image: {image}
          command: ["{binary}"]
          args: [{arguments}]
          resources:
            requests: {{cpu: "1"}}
          volumeMounts:
            - {{name: sweep, mountPath: /sweep}}
      volumes:
        - name: sweep
          persistentVolumeClaim: {{claimName: {claim}}}
"#,
            folder = self.folder.display(),
            name = self.name.replace(['_', '.'], "-").to_lowercase(),
            tasks = self.tasks,
            parallelism = self.options.concurrent.map_or(self.tasks, |n| self.tasks.min(n as usize)),
            grace = self.options.grace,
            binary = binary.display(),
            arguments = arguments.join(", "),
        ))
    }
}

/// Hands a script to `sbatch`; the answer is the id of the job.
///
/// # Errors
/// When `sbatch` is not there or refuses.
pub fn submit(script: &str) -> Result<String> {
    let mut sbatch = Command::new("sbatch")
        .arg("--parsable")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start sbatch; is this a login node of a Slurm cluster?")?;
    // What it does not read shows in its exit status.
    let _ = sbatch.stdin.take().context("sbatch without stdin")?.write_all(script.as_bytes());
    let output = sbatch.wait_with_output().context("cannot wait for sbatch")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        bail!("sbatch refuses ({}): {}", output.status, text(&output.stderr));
    }
    // `--parsable` prints the id, and the cluster behind a semicolon where there are several.
    let answer = text(&output.stdout);
    Ok(answer.split(';').next().unwrap_or_default().to_owned())
}
