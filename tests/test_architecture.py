"""The one-way order of the modules, what each folder holds, and how long a file may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = {"caezip": ROOT / "codec" / "caezip", "caezip_bench": ROOT / "bench" / "caezip_bench"}
WEIGHTS = ROOT / "weights" / "caezip_weights"
MAX_LINES = 400

# from the top of the stack to its bottom; a module imports only from lower groups
ORDER = [
    ["caezip_bench.demo"],  # a program of its own, which shows the command
    ["caezip.cli", "caezip.training.__main__"],
    ["caezip.image_commands"],
    ["caezip.image_work"],
    ["caezip_bench", "caezip.training.command"],
    ["caezip.distributed"],
    ["caezip", "caezip.targets", "caezip.file_runs"],
    ["caezip.file_jobs"],
    ["caezip.pipeline", "caezip.autoencoder"],
    ["caezip.encoding"],
    ["caezip.training", "caezip.decoding"],
    ["caezip.shared_latents", "caezip.payloads"],
    ["caezip.tile_coder", "caezip.engines"],
    ["caezip.refinement"],
    ["caezip.torch_networks", "caezip.openvino_networks", "caezip.quantisation"],
    ["caezip.prediction", "caezip.adaptive_filter"],
    ["caezip.openvino_programs"],
    ["caezip.networks", "caezip.network_cache", "caezip.openvino_graphs", "caezip.pixels"],
    ["caezip.planes", "caezip.steps", "caezip.compiled_networks"],
    ["caezip.patches", "caezip.compiled_layers"],
    ["caezip.openvino_layers"],
    ["caezip.sample_layers"],
    ["caezip.initialisation", "caezip.pretrained"],
    ["caezip.transforms", "caezip.levels"],
    ["caezip.gpu_layers", "caezip.hyper_prior_network", "caezip.scale_network"],
    ["caezip.blocks"],
    ["caezip.config"],
    ["caezip.entropy", "caezip.distortion"],
    ["caezip.compiled_coder"],
    ["caezip.compiled"],
    ["caezip.tile_passes", "caezip.frequency_tables", "caezip.compiled_hyper_prior"],
    ["caezip.hyper_prior"],
    ["caezip.image_io", "caezip.scales", "caezip._rans", "caezip._openvino"],
    ["caezip.hyper_features"],
    ["caezip.integers"],
    ["caezip.picture"],
    ["caezip.container", "caezip.sixteen_bits"],
    ["caezip.workers"],
    ["caezip.matrix_threads"],
    [
        "caezip.arrays",
        "caezip.kept",
        "caezip.memory",
        "caezip.scratch",
        "caezip.sections",
        "caezip.tiling",
        "caezip.together",
        "caezip.processes",
        "caezip.processor",
    ],
    ["caezip.errors"],
]
# groups whose modules import each other; there the test against cycles is what holds
INTERNAL = ("caezip_bench", "caezip.training")


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in SOURCES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports_of(tree: ast.AST) -> set[str]:
    """Modules that are imported anywhere below ``tree``, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                found.add(inner if inner in MODULES else module)
    return found


def names_of(tree: ast.AST) -> set[str]:
    """Modules whose names occur as strings: those of lazy tables."""
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {value for value in constants if isinstance(value, str) and "." in value}


TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}
IMPORTS = {name: imports_of(tree) for name, tree in TREES.items()}
OWN = {name: (IMPORTS[name] | names_of(tree)) & MODULES.keys() for name, tree in TREES.items()}


def at_module_level(name: str) -> set[str]:
    """Modules imported as soon as ``name`` is."""
    kinds = (ast.Import, ast.ImportFrom, ast.Try)
    plain: list[ast.stmt] = [node for node in TREES[name].body if isinstance(node, kinds)]
    return imports_of(ast.Module(plain, []))


def group_of(name: str) -> int | None:
    """Place in ORDER, by the longest prefix; None for a module that it does not name."""
    matches = [
        (len(prefix), rank)
        for rank, group in enumerate(ORDER)
        for prefix in group
        if name == prefix or (prefix != "caezip" and name.startswith(prefix + "."))
    ]
    return max(matches)[1] if matches else None


def test_every_module_has_a_place_in_the_order() -> None:
    named = {name for group in ORDER for name in group}
    assert named <= MODULES.keys()
    assert [name for name in MODULES if group_of(name) is None] == []


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down_only(name: str) -> None:
    rank = group_of(name)
    for imported in OWN[name]:
        other = group_of(imported)
        if rank is None or other is None or (rank == other and name.startswith(INTERNAL)):
            continue
        assert other > rank, f"{name} imports {imported}"


def test_no_module_imports_itself_through_others() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for imported in OWN[name]:
                visit(imported, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_training_is_imported_by_train_on_and_nothing_else_of_the_codec() -> None:
    outside = [n for n in MODULES if n.startswith("caezip") and not n.startswith("caezip.training")]
    importing = {
        name for name in outside if any(i.startswith("caezip.training") for i in IMPORTS[name])
    }
    assert importing <= {"caezip.autoencoder"}
    tree = ast.walk(TREES["caezip.autoencoder"])
    functions = [node for node in tree if isinstance(node, ast.FunctionDef)]
    users = [f.name for f in functions if any("caezip.training" in i for i in imports_of(f))]
    assert users == ["train_on"]


def test_only_the_seam_imports_compressai_and_nothing_imports_torchvision() -> None:
    def importing(package: str) -> list[str]:
        return [
            name
            for name, imported in IMPORTS.items()
            if any(i == package or i.startswith(package + ".") for i in imported)
        ]

    # the zoo's codecs go through the seam too; they name compressai for their types
    assert sorted(importing("compressai")) == [
        "caezip.training._compressai",
        "caezip_bench.peers.zoo",
    ]
    assert importing("torchvision") == []


@pytest.mark.parametrize("name", ["caezip", "caezip.container", "caezip.errors", "caezip.cli"])
def test_what_reads_headers_imports_neither_torch_nor_numpy_at_first(name: str) -> None:
    seen, queue = set(), [name]
    while queue:
        current = queue.pop()
        if current in MODULES and current not in seen:
            seen.add(current)
            queue.extend(at_module_level(current))
            for imported in at_module_level(current):
                assert imported.split(".")[0] not in {"torch", "numpy", "PIL"}, current


@pytest.mark.parametrize(
    "name",
    [
        "entropy",
        "_rans",
        "container",
        "sections",
        "tiling",
        "picture",
        "sixteen_bits",
        "image_io",
        "pretrained",
        "config",
        "engines",
        "networks",
        "prediction",
        "quantisation",
        "tile_coder",
        "decoding",
        "pipeline",
        "workers",
        "network_cache",
        "openvino_graphs",
        "openvino_layers",
        "openvino_networks",
        "openvino_programs",
        "payloads",
    ],
)
def test_torch_stays_out_of_the_integer_path(name: str) -> None:
    assert not any(i.split(".")[0] == "torch" for i in at_module_level(f"caezip.{name}"))


def test_the_weights_folder_holds_weights_and_their_manifest_only() -> None:
    for path in WEIGHTS.rglob("*"):
        if "__pycache__" in path.parts:
            continue
        assert path.parent == WEIGHTS
        allowed = {"__init__.py", "manifest.json", "README.md", "py.typed"}
        assert path.name in allowed or path.suffix == ".safetensors", path.name
    body = ast.parse((WEIGHTS / "__init__.py").read_text("utf-8")).body
    assert all(isinstance(node, ast.Expr) for node in body)  # a docstring, no code


def test_no_file_is_longer_than_400_lines() -> None:
    long = {}
    for folder in (ROOT / "codec", ROOT / "bench"):
        for path in folder.rglob("*"):
            if path.suffix in (".py", ".md", ".toml"):
                count = len(path.read_text("utf-8").splitlines())
                if count > MAX_LINES:
                    long[str(path.relative_to(ROOT))] = count
    assert long == {}


def test_every_module_says_what_it_is_for() -> None:
    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree)] == []
