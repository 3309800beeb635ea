//! The interpreter of a Rust program: that of the active virtual environment.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pyo3::{Python, ffi};

/// The program of the active virtual environment, or else the first Python on the path.
///
/// # Errors
/// When there is none.
pub fn program() -> Result<PathBuf, String> {
    let file = |folder: PathBuf, name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    let names = if cfg!(windows) { ["python.exe", "python3.exe"] } else { ["python3", "python"] };
    let scripts = if cfg!(windows) { "Scripts" } else { "bin" };
    for key in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        if let Some(root) = std::env::var_os(key).filter(|root| !root.is_empty()) {
            let folder = Path::new(&root).join(scripts);
            return names.iter().find_map(|name| file(folder.clone(), name)).ok_or_else(|| {
                let root = Path::new(&root).display();
                format!("{key} is {root}, which holds no Python: python3 -m venv {root}")
            });
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find_map(|folder| names.iter().find_map(|name| file(folder.clone(), name))).ok_or_else(
        || {
            "there is no Python: install one, then `python3 -m venv .venv; . .venv/bin/activate; pip install gymnasium`"
                .to_owned()
        },
    )
}

/// Starts the interpreter, once.
///
/// # Errors
/// When there is no Python, or one of another version than this program was built against.
pub fn start() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED.get_or_init(|| initialize(&program()?)).clone()
}

fn initialize(program: &Path) -> Result<(), String> {
    // SAFETY: this may be called before the interpreter starts, and the text lives as long as the program.
    let ours = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) }.to_string_lossy();
    if let (Some(found), Some(ours)) = (venv_version(program), minor(&ours))
        && found != ours
    {
        return Err(format!(
            "{} is Python {found}, this program was built against {ours}: build it again with PYO3_PYTHON set to that \
             program, or use --gymnasium-workers 1",
            program.display()
        ));
    }
    let program = CString::new(program.as_os_str().as_encoded_bytes()).map_err(|e| e.to_string())?;
    // SAFETY: `config` is initialised by PyConfig_InitPythonConfig before anything reads it, and cleared on every
    // path. No interpreter runs yet: `start` comes here once. The thread gives up the lock that it holds after the
    // start, so that any thread may attach.
    unsafe {
        let mut config = std::mem::MaybeUninit::<ffi::PyConfig>::zeroed().assume_init();
        ffi::PyConfig_InitPythonConfig(&mut config);
        // Signals stay ours.
        config.install_signal_handlers = 0;
        config.parse_argv = 0;
        let name = &raw mut config.program_name;
        let mut status = ffi::PyConfig_SetBytesString(&mut config, name, program.as_ptr());
        if ffi::PyStatus_Exception(status) == 0 {
            status = ffi::Py_InitializeFromConfig(&config);
        }
        ffi::PyConfig_Clear(&mut config);
        if ffi::PyStatus_Exception(status) != 0 {
            let text =
                |s: *const std::ffi::c_char| (!s.is_null()).then(|| CStr::from_ptr(s).to_string_lossy());
            let why = text(status.err_msg).unwrap_or_default();
            return Err(format!("the Python of {} does not start: {why}", program.to_string_lossy()));
        }
        ffi::PyEval_SaveThread();
    }
    // Modules of the working folder are found, as by `python -c`.
    Python::attach(|py| py.run(c"import sys; sys.path.insert(0, '')", None, None)).map_err(|e| e.to_string())
}

/// `3.11` of `3.11.7 (main, …`.
fn minor(version: &str) -> Option<String> {
    let mut parts = version.trim().split('.');
    Some(format!("{}.{}", parts.next()?, parts.next()?))
}

/// Version of the Python behind a virtual environment, where it says.
fn venv_version(program: &Path) -> Option<String> {
    let text = std::fs::read_to_string(program.parent()?.parent()?.join("pyvenv.cfg")).ok()?;
    let (_, version) =
        text.lines().filter_map(|l| l.split_once('=')).find(|(key, _)| key.starts_with("version"))?;
    minor(version)
}
