"""Which processes train together, as TF_CONFIG or Slurm tells them."""

import json

import pytest

from charlstm.cluster import ALONE, Cluster, cluster_of
from charlstm.errors import CharlstmError

HOSTS = {"worker": ["a:1", "b:1"]}
STEP = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "node[09-10]",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
    "SLURM_NODEID": "0",
    "SLURM_LOCALID": "0",
}


def tf_config(cluster: dict[str, list[str]], job: str = "worker", index: int = 0) -> dict[str, str]:
    task = {"type": job, "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def hosts_of(cluster: Cluster) -> list[str]:
    return [address.split(":")[0] for address in cluster.addresses]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": "{}"},
        tf_config({"worker": ["a:1"]}),
        {**STEP, "SLURM_STEP_NUM_TASKS": "1"},
        # A batch script without srun: the job has several tasks, but this is a single process.
        {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "3", "SLURM_PROCID": "0", "SLURM_NNODES": "2"},
    ],
)
def test_a_process_by_itself_trains_alone(variables: dict[str, str]) -> None:
    assert cluster_of(variables) is ALONE


def test_the_chief_is_the_first_worker() -> None:
    cluster = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    assert cluster_of(tf_config(cluster, "chief")).is_chief
    last = cluster_of(tf_config(cluster, "worker", 1))
    assert (last.addresses, last.index) == (("a:1", "b:1", "c:1"), 2)
    assert last.named(last.index) == "worker 3 (c:1)"
    assert cluster_of(tf_config(HOSTS)).is_chief


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"TF_CONFIG": "worker"}, "TF_CONFIG: names no cluster and task"),
        ({"TF_CONFIG": "[]"}, "TF_CONFIG: names no cluster and task"),
        (tf_config(HOSTS, index=2), "TF_CONFIG: names no cluster and task"),
        (tf_config(HOSTS, "chief"), "TF_CONFIG: names no cluster and task"),
        (tf_config({**HOSTS, "ps": ["c:1"]}), "TF_CONFIG: has a job named ps"),
        (tf_config({"worker": ["a", "b"]}), "TF_CONFIG: has a task without an address"),
        (tf_config({"worker": ["a:1", "a:1"]}), "TF_CONFIG: names an address twice"),
        ({**STEP, "SLURM_STEP_NODELIST": "node9"}, "this Slurm job step"),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "2,x"}, "this Slurm job step"),
        ({**STEP, "SLURM_LOCALID": "7"}, "this Slurm job step"),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "two", "SLURM_JOB_ID": ""}, "this Slurm job step"),
    ],
)
def test_what_cannot_be_a_cluster_is_refused(variables: dict[str, str], complaint: str) -> None:
    with pytest.raises(CharlstmError) as raised:
        cluster_of(variables)
    assert complaint in raised.value.line(str)


@pytest.mark.parametrize(
    ("nodes", "tasks", "hosts"),
    [
        ("node[1-3,7]", "2(x3),1", ["node1"] * 2 + ["node2"] * 2 + ["node3"] * 2 + ["node7"]),
        ("a,b", "1(x2)", ["a", "b"]),
        ("n[08-11]", "1(x4)", ["n08", "n09", "n10", "n11"]),
        (
            "r[1-2]n[1-2]-gpu,login",
            "1(x5)",
            ["r1n1-gpu", "r1n2-gpu", "r2n1-gpu", "r2n2-gpu", "login"],
        ),
        ("gpu-a[1,3]", "3,1", ["gpu-a1"] * 3 + ["gpu-a3"]),
    ],
)
def test_slurm_lists_are_expanded_in_order(nodes: str, tasks: str, hosts: list[str]) -> None:
    step = {**STEP, "SLURM_STEP_NODELIST": nodes, "SLURM_STEP_TASKS_PER_NODE": tasks}
    assert hosts_of(cluster_of(step)) == hosts


@pytest.mark.parametrize("procid", ["1", "2"])
def test_a_slurm_task_finds_its_address_by_its_host(procid: str) -> None:
    """Not by its rank, whose order depends on ``srun --distribution``."""
    found = cluster_of({**STEP, "SLURM_NODEID": "1", "SLURM_LOCALID": "0", "SLURM_PROCID": procid})
    assert (found.index, hosts_of(found)[2]) == (2, "node10")


def test_all_tasks_of_a_step_get_the_same_ports_and_other_jobs_get_others() -> None:
    """The next jobs on the same host have other ports, each with 64 tasks there."""
    seen: set[str] = set()
    for job in range(3_000_000, 3_000_050):
        step = {**STEP, "SLURM_JOB_ID": str(job), "SLURM_STEP_NODELIST": "a"}
        step |= {"SLURM_STEP_TASKS_PER_NODE": "64", "SLURM_STEP_NUM_TASKS": "64"}
        tasks = [cluster_of({**step, "SLURM_LOCALID": str(task)}) for task in (0, 63)]
        assert tasks[0].addresses == tasks[1].addresses
        assert seen.isdisjoint(tasks[0].addresses)
        seen |= set(tasks[0].addresses)
        assert all(1024 < int(a.split(":")[1]) < 32_768 for a in tasks[0].addresses)


def test_workers_on_a_host_share_its_gpus_unless_each_sees_its_own() -> None:
    """With ``--gpus-per-task``, every task sees its own GPUs, and calls the first one GPU 0."""
    tasks = [cluster_of({**STEP, "SLURM_LOCALID": str(task)}) for task in (0, 1)]
    assert [task.share([0, 1, 2, 3]) for task in tasks] == [[0, 1], [2, 3]]
    assert [task.share([0]) for task in tasks] == [[0], [0]]
    other_host = cluster_of({**STEP, "SLURM_NODEID": "1"})
    assert other_host.share([0, 1, 2, 3]) == [0, 1, 2, 3]
    own = cluster_of({**STEP, "SLURM_GPUS_PER_TASK": "2", "SLURM_LOCALID": "1"})
    assert own.share([0, 1]) == [0, 1]
