"""p2p-doctor: what is wrong with a training."""

import sys

from absl import flags

from p2p_keras.cli import command
from p2p_keras.errors import UserError
from p2p_keras.system.urls import store_errors_in_words, to_folder

DOC = """
    p2p-doctor looks for what goes wrong with trainings: in a run's history and evaluations, its pairs, and the pictures
    of its newest checkpoint.

      p2p-doctor --workdir=runs/a2s

    It prints each finding with its evidence, its meaning and the remedy, and writes them to RUN/doctor.json. The exit
    status is 0 if there are none, 1 if there are some. docs/doctor.md has the list.
    """

FLAGS = flags.FlagValues()

flags.DEFINE_string("workdir", None, "The run's folder.", flag_values=FLAGS)
flags.DEFINE_string(
    "data_dir", None, "Where the run's data lie now, or their URL. Default: as in the run.", flag_values=FLAGS
)


def main(values: flags.FlagValues) -> int:
    """Examines a run; returns the exit status."""
    if not values["workdir"].value:
        raise UserError("--workdir names the folder of a run, as p2p-train wrote it. Received none. For one: runs/a2s")
    workdir = command.run_folder(values["workdir"].value)
    data_dir = values["data_dir"].value

    with command.quiet_start():  # and here, so that --help and a typo don't wait for TensorFlow
        from p2p_keras.doctor.run import examine, write_report
    with store_errors_in_words():
        diagnosis = examine(workdir, to_folder(data_dir) if data_dir else None)
    if diagnosis.findings:
        print(f"{workdir}, step {diagnosis.step}: {command.counted(len(diagnosis.findings), 'finding', 'findings')}")
    for finding in diagnosis.findings:
        print(f"\n{finding.name}: {finding.evidence}\n    {finding.meaning}\n    {finding.remedy}")
    if diagnosis.findings:
        print()
    about = "Nothing else found" if diagnosis.findings else f"{workdir}, step {diagnosis.step}: nothing found"
    made = f" ({', '.join(diagnosis.clear)})" if diagnosis.clear else ""
    print(f"{about}: {command.counted(len(diagnosis.clear), 'check', 'checks')}{made}")
    for skipped in diagnosis.skipped:
        print(f"Not looked for, {skipped.name}: {skipped.reason}")
    try:
        write_report(workdir, diagnosis)
    except OSError as error:  # as where the folder is another user's
        print(f"p2p-doctor: doctor.json was not written: {error}", file=sys.stderr)
    return 1 if diagnosis.findings else 0


def entry_point() -> None:
    """`p2p-doctor`."""
    command.run(main, FLAGS, DOC)


if __name__ == "__main__":
    entry_point()
