"""The sessions: plain pip and virtualenv, pinned by constraints.txt.

nox -s benchmark      train, measure and write the leaderboards of electrolyte (reports/site/index.html), dynamics
                      (reports/site/dynamics) and verification; arguments after -- go to `mlipbench run` instead
nox -s tests          all tests
nox -s lint types     style, layers, spelling; static types
nox -s speed          side-by-side timings, written to reports/speed.json and speed.html
nox -s power          how often the gate errs, on models of one recipe (a quarter of an hour); written to reports/power
nox -s gate           is a candidate good enough to merge?
"""

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "virtualenv"
PYTHON = "3.11"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def install(session: nox.Session, *what: str) -> None:
    """Install with the pinned versions; torch comes first, so that nothing pulls in another build of it."""
    session.install("-c", "constraints.txt", "torch==2.13.0")
    session.install("-c", "constraints.txt", *what)


@nox.session(python=PYTHON)
def benchmark(session: nox.Session) -> None:
    install(session, "-e", ".[mace,mm,gap]")
    if session.posargs:
        session.run("mlipbench", "run", *session.posargs, env=ONE_THREAD)
        return
    session.run("mlipbench", "run", "dynamics", "--out", "reports/site/dynamics", env=ONE_THREAD)
    session.run("mlipbench", "run", "electrolyte", env=ONE_THREAD)
    session.run("mlipbench", "run", "verification", "--out", "reports/site/verification", env=ONE_THREAD)


@nox.session(python=PYTHON)
def tests(session: nox.Session) -> None:
    install(session, "-e", ".[mace,generate,tests]")
    session.run("pytest", "-n", "2", "--dist", "worksteal", *session.posargs, env=ONE_THREAD)


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    session.install("-c", "constraints.txt", "ruff", "import-linter", "codespell")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell", ".")
    session.run("lint-imports", env={"PYTHONPATH": "."})


@nox.session(python=PYTHON)
def types(session: nox.Session) -> None:
    session.install("-c", "constraints.txt", "mypy", "numpy", "pydantic", "rich", "jinja2", "pytest", "hypothesis")
    session.run("mypy")


@nox.session(python=PYTHON)
def speed(session: nox.Session) -> None:
    install(session, "-e", ".[mace,mm,gap]", "ace-jax==0.4.1", "torch-sim-atomistic==0.3.0", "MDAnalysis==2.11.0")
    session.run("python", "-m", "mlipbench.speed", *session.posargs, env=ONE_THREAD)


@nox.session(python=PYTHON)
def power(session: nox.Session) -> None:
    install(session, "-e", ".")
    session.run("python", "-m", "mlipbench.power", *session.posargs, env=ONE_THREAD)


@nox.session(python=PYTHON)
def gate(session: nox.Session) -> None:
    """`nox -s gate -- MODEL [--store DIR] [--tier T] [--data D]`: run the smoke suite, then judge it."""
    install(session, "-e", ".[mace,mm]")
    candidate, *options = session.posargs or ["ace-small"]
    session.run("mlipbench", "run", "smoke", "--model", candidate, *options, env=ONE_THREAD, success_codes=[0, 2])
    session.run("mlipbench", "gate", "smoke", "--candidate", candidate, *options, env=ONE_THREAD)
