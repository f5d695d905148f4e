"""Checkpoints: what is unsafe or broken is refused with the way out; the rest loads, copies, and comes from a hub."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import SHA, Hub, hub, hub_environment
from safetensors.torch import load_file, save_file
from tiny import FAMILY_NAMES, LABELS, ROBERTA_SPECIALS, tiny_classifier, tiny_rows, tiny_tokenizer, write_csv

from edgetf.core.errors import ArtifactError, ConfigError
from edgetf.models.checkpoint import (
    align_labels,
    copy_checkpoint,
    copy_tokenizer,
    label_names,
    load_classifier,
    locate_teacher,
    read_config,
    save_classifier,
)
from edgetf.models.heads import has_head
from edgetf.models.slicing import layers_of
from edgetf.runtime.encoder import Encoder

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(original, tmp_path / "teacher"))


def edit_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(5, 17).repeat(2, 1)
    with torch.no_grad():
        answer: torch.Tensor = model(input_ids=ids).logits
    return answer


class TestLocateTeacher:
    def test_gives_a_folder(self, folder: Path) -> None:
        assert locate_teacher(str(folder)) == folder

    def test_refuses_what_is_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match="is not a folder; give a folder, hub:OWNER/NAME or package:"):
            locate_teacher(str(tmp_path / "nowhere"))

    def test_refuses_a_folder_without_config(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match=r"has no config\.json"):
            locate_teacher(str(tmp_path))

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt"])
    def test_refuses_a_pickle_with_the_way_to_convert_it(self, folder: Path, name: str) -> None:
        (folder / "model.safetensors").rename(folder / name)
        with pytest.raises(ArtifactError) as caught:
            locate_teacher(str(folder))
        assert caught.value.exit_code == 3
        assert "pickle, which can run code" in str(caught.value)
        assert "from_pretrained(…).save_pretrained(…)" in str(caught.value)

    def test_a_pickle_beside_safetensors_is_not_touched(self, folder: Path) -> None:
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
        assert locate_teacher(str(folder)) == folder
        assert load_classifier(folder).config.model_type == "bert"

    def test_refuses_sharded_weights(self, folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        (folder / "model.safetensors.index.json").write_text("{}")
        with pytest.raises(ArtifactError, match=r"sharded weights; save it as one model\.safetensors"):
            locate_teacher(str(folder))

    def test_refuses_a_folder_without_weights(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        with pytest.raises(ArtifactError, match=r"has no model\.safetensors"):
            locate_teacher(str(folder))

    def test_needs_no_weights_for_the_config(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        assert locate_teacher(str(folder), config_only=True) == folder


class TestReadConfig:
    def test_refuses_code_of_its_own(self, folder: Path) -> None:
        edit_config(folder, auto_map={"AutoModel": "modeling_evil.Evil"})
        (folder / "modeling_evil.py").write_text("raise SystemExit('ran')")
        for use in (read_config, load_classifier, lambda place: load_classifier(place, ["a", "b"])):
            with pytest.raises(ArtifactError, match=r"code of its own \(auto_map\); edgetf runs no remote code"):
                use(folder)

    @pytest.mark.parametrize("content", ["", "{", "[1, 2]", '"bert"', "{}", "\x00"])
    def test_refuses_what_is_no_config(self, folder: Path, content: str) -> None:
        (folder / "config.json").write_text(content)
        with pytest.raises(ArtifactError, match=r"config\.json: (cannot be read|names no model_type)"):
            read_config(folder)

    def test_refuses_bytes_that_are_no_text(self, folder: Path) -> None:
        (folder / "config.json").write_bytes(b"\xff\xfe\xfa")
        with pytest.raises(ArtifactError, match="cannot be read"):
            read_config(folder)

    def test_names_the_classes_in_the_order_of_their_ids(self, folder: Path) -> None:
        assert label_names(read_config(folder)) == list(LABELS)
        assert label_names({"id2label": {"10": "k", "2": "c", "1": "b"}}) == ["b", "c", "k"]
        assert label_names({}) == []

    def test_sees_a_head(self, folder: Path) -> None:
        assert has_head(read_config(folder))
        assert not has_head({"architectures": ["BertModel"]})
        assert not has_head({"architectures": None})
        assert not has_head({})


class TestLoadClassifier:
    @pytest.mark.parametrize("family", FAMILY_NAMES)
    def test_saved_and_reloaded_is_the_same(self, family: str, tmp_path: Path) -> None:
        source = tiny_classifier(family, tmp_path / "a")
        model = load_classifier(source)
        assert not model.training
        params = save_classifier(model, tmp_path / "b", source)
        assert params == sum(parameter.numel() for parameter in model.parameters())
        assert torch.equal(logits(load_classifier(tmp_path / "b")), logits(model))
        assert not list((tmp_path / "b").glob("*.bin"))

    def test_answers_as_transformers_does(self, folder: Path) -> None:
        from transformers import AutoModelForSequenceClassification

        plain = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
        assert torch.equal(logits(load_classifier(folder)), logits(plain))

    def test_keeps_the_head_where_the_classes_are_as_many(self, folder: Path) -> None:
        model = load_classifier(folder, ["x", "y", "z"])
        assert torch.equal(logits(model), logits(load_classifier(folder)))
        assert [model.config.id2label[k] for k in range(3)] == ["x", "y", "z"]

    def test_makes_a_head_anew_where_they_are_not(self, folder: Path) -> None:
        model = load_classifier(folder, ["a", "b", "c", "d"])
        assert logits(model).shape == (2, 4)
        before = load_classifier(folder)
        assert torch.equal(
            model.bert.encoder.layer[1].output.dense.weight, before.bert.encoder.layer[1].output.dense.weight
        )

    def test_gives_a_bare_encoder_a_head(self, folder: Path, tmp_path: Path) -> None:
        """As sentence encoders come: without a head, their weights without the prefix."""
        whole = load_classifier(folder)
        whole.bert.save_pretrained(tmp_path / "bare")
        model = load_classifier(tmp_path / "bare", list(LABELS))
        assert torch.equal(model.bert.embeddings.word_embeddings.weight, whole.bert.embeddings.word_embeddings.weight)
        assert torch.equal(layers_of(model)[1].output.dense.weight, layers_of(whole)[1].output.dense.weight)
        assert logits(model).shape == (2, 3)

    @pytest.mark.parametrize("names", [None, list(LABELS)], ids=["as it is", "with classes"])
    @pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "a long header"])
    def test_refuses_damaged_weights(self, folder: Path, damage: str, names: list[str] | None) -> None:
        path = folder / "model.safetensors"
        content = path.read_bytes()
        spoilt = {
            "truncated": content[: len(content) // 2],
            "garbage": b"\x80\x04" + b"x" * 5000,
            "empty": b"",
            "a long header": (1 << 62).to_bytes(8, "little") + content[8:],
        }
        path.write_bytes(spoilt[damage])
        with pytest.raises(ArtifactError, match="bert weights cannot be loaded"):
            load_classifier(folder, names)

    @pytest.mark.parametrize("names", [None, list(LABELS)], ids=["as it is", "with classes"])
    @pytest.mark.parametrize(
        "fields",
        [{"num_hidden_layers": 3}, {"intermediate_size": 48}, {"vocab_size": 50}, {"hidden_size": 48}],
        ids=lambda fields: next(iter(fields)),
    )
    def test_refuses_weights_that_do_not_fit_the_config(
        self, folder: Path, fields: dict[str, int], names: list[str] | None
    ) -> None:
        """Otherwise the parts that do not fit would be random, in silence."""
        edit_config(folder, **fields)
        with pytest.raises(ArtifactError, match="bert weights cannot be loaded"):
            load_classifier(folder, names)

    def test_refuses_weights_that_lack_a_tensor(self, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        del tensors["bert.encoder.layer.0.output.dense.weight"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        for names in (None, list(LABELS)):
            with pytest.raises(ArtifactError, match="bert weights cannot be loaded"):
                load_classifier(folder, names)

    @pytest.mark.parametrize("names", [None, list(LABELS)], ids=["as it is", "with classes"])
    @pytest.mark.parametrize("age", ["position_ids", "gamma and beta"])
    def test_takes_the_names_of_older_checkpoints(self, folder: Path, age: str, names: list[str] | None) -> None:
        """Many on the hub were written when the positions were saved too, or the norms had TensorFlow's names."""
        wanted = logits(load_classifier(folder))
        tensors = load_file(folder / "model.safetensors")
        if age == "position_ids":
            tensors["bert.embeddings.position_ids"] = torch.arange(64)[None]
        else:
            old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
            for new, before in old.items():
                for name in [name for name in tensors if name.endswith(new)]:
                    tensors[name.replace(new, before)] = tensors.pop(name)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        assert torch.equal(logits(load_classifier(folder, names)), wanted)

    def test_refuses_a_model_type_that_nobody_knows(self, folder: Path) -> None:
        edit_config(folder, model_type="nobody")
        with pytest.raises((ArtifactError, ConfigError), match="nobody"):
            load_classifier(folder)


class TestTokenizer:
    def test_is_copied(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        copy_tokenizer(folder, tmp_path / "out")
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert names == {"tokenizer.json", "tokenizer_config.json", "vocab.txt"}

    def test_is_converted_where_it_has_no_fast_form(self, folder: Path, tmp_path: Path) -> None:
        wanted = Encoder(folder, 64).pieces(["goal rain, the Bank"])[0][0].input_ids
        (folder / "tokenizer.json").unlink()
        (tmp_path / "out").mkdir()
        copy_tokenizer(folder, tmp_path / "out")
        assert Encoder(tmp_path / "out", 64).pieces(["goal rain, the Bank"])[0][0].input_ids == wanted

    def test_missing_is_refused(self, folder: Path, tmp_path: Path) -> None:
        for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
            (folder / name).unlink()
        (tmp_path / "out").mkdir()
        with pytest.raises(ArtifactError, match="tokenizer"):
            copy_tokenizer(folder, tmp_path / "out")

    def test_with_code_of_its_own_is_refused(self, folder: Path, tmp_path: Path) -> None:
        """Neither run nor asked about: nobody may be there to answer."""
        (folder / "tokenizer.json").unlink()
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings |= {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", None]}}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
        (tmp_path / "out").mkdir()
        with pytest.raises(ArtifactError, match="tokenizer"):
            copy_tokenizer(folder, tmp_path / "out")
        assert not (tmp_path / "ran").exists()

    def test_broken_is_refused(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text('{"version": "1.0"')
        with pytest.raises(ArtifactError, match="not a tokenizer"):
            Encoder(folder, 64)

    def test_absent_is_refused_by_the_encoder(self, folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        with pytest.raises(ArtifactError, match="not found; the artifact needs its tokenizer"):
            Encoder(folder, 64)

    def test_of_roberta_pads_with_one(self, tmp_path: Path) -> None:
        tiny_tokenizer(tmp_path, specials=ROBERTA_SPECIALS)
        assert Encoder(tmp_path, 64).pieces(["goal"])[0][0].input_ids[0] == 0
        assert (tmp_path / "vocab.txt").read_text().splitlines()[1] == "[PAD]"


class TestCopyCheckpoint:
    def test_counts_the_weights_without_torch(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        params = copy_checkpoint(folder, tmp_path / "out")
        assert params == sum(parameter.numel() for parameter in load_classifier(folder).parameters())
        assert torch.equal(logits(load_classifier(tmp_path / "out")), logits(load_classifier(folder)))

    def test_counts_no_positions(self, folder: Path, tmp_path: Path) -> None:
        """Older checkpoints hold the numbers 0, 1, 2, … of the positions, which are no weights."""
        wanted = sum(parameter.numel() for parameter in load_classifier(folder).parameters())
        tensors = {**load_file(folder / "model.safetensors"), "bert.embeddings.position_ids": torch.arange(64)[None]}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (tmp_path / "out").mkdir()
        assert copy_checkpoint(folder, tmp_path / "out") == wanted

    def test_of_a_link_is_a_file(self, folder: Path, tmp_path: Path) -> None:
        """A hub cache holds symbolic links, which an artifact must not."""
        blob = folder.parent / "blob"
        (folder / "model.safetensors").rename(blob)
        (folder / "model.safetensors").symlink_to(blob)
        (tmp_path / "out").mkdir()
        copy_checkpoint(folder, tmp_path / "out")
        copied = tmp_path / "out" / "model.safetensors"
        assert not copied.is_symlink() and copied.read_bytes() == blob.read_bytes()

    def test_refuses_damaged_weights(self, folder: Path, tmp_path: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"not a checkpoint at all")
        (tmp_path / "out").mkdir()
        with pytest.raises(ArtifactError, match="not a safetensors file .* download it again"):
            copy_checkpoint(folder, tmp_path / "out")


class TestAlignLabels:
    def test_finds_the_teachers_ids(self) -> None:
        assert align_labels(["sport", "money", "weather"], ["money", "sport", "weather"]) == [1, 0, 2]

    def test_does_not_mind_case(self) -> None:
        assert align_labels(["NEGATIVE", "POSITIVE"], ["positive", "negative"]) == [1, 0]

    def test_takes_unnamed_classes_in_order(self) -> None:
        assert align_labels(["LABEL_0", "LABEL_1"], ["ham", "spam"]) == [0, 1]

    @pytest.mark.parametrize(
        ("teacher", "data"),
        [
            (["a", "b"], ["a", "c"]),
            (["a", "b"], ["a", "b", "c"]),
            (["LABEL_0", "LABEL_1"], ["a", "b", "c"]),
            (["LABEL_1", "LABEL_0"], ["a", "b"]),
        ],
    )
    def test_refuses_other_classes(self, teacher: list[str], data: list[str]) -> None:
        with pytest.raises(ConfigError, match="its classes are .*, those of the data .*; add a finetune stage"):
            align_labels(teacher, data)


class TestHub:
    @pytest.fixture(scope="class")
    def server(self, original: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
        top = tmp_path_factory.mktemp("hub")
        model = Path(shutil.copytree(original, top / "model"))
        (model / "README.md").write_text("# a card")
        (model / "pytorch_model.bin").write_bytes(b"\x80\x04 never fetched")
        pickled = Path(shutil.copytree(model, top / "pickled"))
        (pickled / "model.safetensors").unlink()
        single, several = top / "single", top / "several"
        single.mkdir()
        write_csv(single / "rows.csv", tiny_rows(60))
        (single / "README.md").write_text("# a card")
        (several / "data").mkdir(parents=True)
        write_csv(several / "data" / "train.csv", tiny_rows(60))
        write_csv(several / "data" / "more.csv", tiny_rows(30, seed=9))
        folders = {
            "models/owner/tiny": model,
            "models/owner/pickled": pickled,
            "datasets/owner/rows": single,
            "datasets/owner/several": several,
        }
        with hub(folders) as running:
            yield running

    def ask(self, code: str, url: str, cache: Path) -> str:
        """Run code in a process that takes the server for the hub; gives what it prints, or the error it raises."""
        program = (
            "from edgetf.core.errors import EdgetfError\n"
            "try:\n" + "".join(f"    {line}\n" for line in code.splitlines()) + "except EdgetfError as error:\n"
            "    print(type(error).__name__, error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=hub_environment(url, cache),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def locate(self, source: str, url: str, cache: Path, arguments: str = "") -> str:
        code = f"from edgetf.models.checkpoint import locate_teacher\nprint(locate_teacher({source!r}{arguments}))"
        return self.ask(code, url, cache)

    @pytest.mark.parametrize("source", ["hub:owner/tiny", "owner/tiny"])
    def test_model_is_downloaded(self, server: Hub, original: Path, tmp_path: Path, source: str) -> None:
        place = Path(self.locate(source, server.url, tmp_path))
        assert place.is_relative_to(tmp_path) and place.name == SHA
        assert torch.equal(logits(load_classifier(place)), logits(load_classifier(original)))
        names = {path.name for path in place.iterdir()}
        assert {"tokenizer.json", "config.json", "model.safetensors"} <= names
        assert not names & {"pytorch_model.bin", "README.md"}

    def test_downloaded_model_can_be_copied(self, server: Hub, tmp_path: Path) -> None:
        place = Path(self.locate("hub:owner/tiny", server.url, tmp_path))
        (tmp_path / "out").mkdir()
        copy_checkpoint(place, tmp_path / "out")
        assert not (tmp_path / "out" / "model.safetensors").is_symlink()
        assert Encoder(tmp_path / "out", 64).pieces(["goal"])[0][0].input_ids

    def test_config_alone_is_downloaded_for_a_plan(self, server: Hub, tmp_path: Path) -> None:
        place = Path(self.locate("hub:owner/tiny", server.url, tmp_path, ", config_only=True"))
        assert [path.name for path in place.iterdir()] == ["config.json"]

    def test_second_time_comes_from_the_cache(self, server: Hub, tmp_path: Path) -> None:
        first = self.locate("hub:owner/tiny", server.url, tmp_path)
        before = len(server.requests)
        assert self.locate("hub:owner/tiny", server.url, tmp_path) == first
        assert not [path for path in server.requests[before:] if "/resolve/" in path]

    def test_cache_serves_without_the_hub(self, server: Hub, tmp_path: Path) -> None:
        first = self.locate("hub:owner/tiny", server.url, tmp_path)
        assert self.locate("hub:owner/tiny", f"http://127.0.0.1:{closed_port()}", tmp_path) == first

    def test_revision_is_asked_for(self, server: Hub, tmp_path: Path) -> None:
        assert self.locate("hub:owner/tiny", server.url, tmp_path, f", {SHA!r}").endswith(SHA)
        answer = self.locate("hub:owner/tiny", server.url, tmp_path / "other", ", 'nope'")
        assert answer == "ArtifactError hub:owner/tiny: not found; check the name and the revision"

    def test_pickle_is_refused_with_the_way_to_convert_it(self, server: Hub, tmp_path: Path) -> None:
        answer = self.locate("hub:owner/pickled", server.url, tmp_path)
        assert answer.startswith("ArtifactError") and "pickle" in answer and "save_pretrained" in answer
        assert not list(tmp_path.rglob("pytorch_model.bin"))

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("hub:owner/absent", "not found; check the name and the revision"),
            ("hub:private/model", "not found, or private: log in with `hf auth login`"),
            ("hub:gated/model", "access refused: ask for it on the hub, then `hf auth login`"),
            ("hub:no//id", "not a hub id; write hub:OWNER/NAME"),
        ],
    )
    def test_refusals_are_told_apart(self, server: Hub, tmp_path: Path, source: str, message: str) -> None:
        answer = self.locate(source, server.url, tmp_path)
        assert answer.startswith(f"ArtifactError {source}: {message}")

    def test_a_hub_that_fails_is_named(self, server: Hub, tmp_path: Path) -> None:
        answer = self.locate("hub:broken/model", server.url, tmp_path)
        assert answer.startswith("ArtifactError hub:broken/model: the hub ")
        assert "None" not in answer

    def test_unreachable_hub_is_named(self, tmp_path: Path) -> None:
        answer = self.locate("hub:owner/tiny", f"http://127.0.0.1:{closed_port()}", tmp_path)
        assert answer.startswith("ArtifactError hub:owner/tiny: the hub cannot be reached (")
        assert answer.endswith("check the network, or give a local folder")

    def test_switched_off_hub_is_named(self, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        code = (
            "import os\nos.environ['HF_HUB_OFFLINE'] = '1'\n"
            "from edgetf.models.checkpoint import locate_teacher\nprint(locate_teacher('hub:owner/tiny'))"
        )
        assert "cannot be reached" in self.ask(code, server.url, tmp_path)

    def dataset(self, source: str, url: str, cache: Path) -> str:
        code = (
            "from edgetf.config.data import DataConfig\n"
            "from edgetf.data.dataset import load_dataset\n"
            f"data = load_dataset(DataConfig(source={source!r}))\n"
            "print(*data.label_names, len(data.train) + len(data.dev) + len(data.test))"
        )
        return self.ask(code, url, cache)

    @pytest.mark.parametrize("source", ["hub:owner/rows", "owner/rows", "hub:owner/rows/rows.csv"])
    def test_dataset_is_downloaded(self, server: Hub, tmp_path: Path, source: str) -> None:
        assert self.dataset(source, server.url, tmp_path) == "money sport weather 60"

    def test_one_table_of_several_is_named(self, server: Hub, tmp_path: Path) -> None:
        assert self.dataset("hub:owner/several/data/more.csv", server.url, tmp_path) == "money sport weather 30"
        assert self.dataset("hub:owner/several", server.url, tmp_path / "other") == (
            "DataError data.source: hub:owner/several has these tables: data/more.csv, data/train.csv; "
            "name one as hub:owner/several/FILE"
        )

    def test_a_cached_table_does_not_hide_another(self, server: Hub, tmp_path: Path) -> None:
        """The hub's cache gathers what was fetched before; asking for one file gives that file."""
        assert self.dataset("hub:owner/several/data/train.csv", server.url, tmp_path).endswith(" 60")
        assert self.dataset("hub:owner/several/data/more.csv", server.url, tmp_path).endswith(" 30")

    def test_absent_dataset_and_table_are_named(self, server: Hub, tmp_path: Path) -> None:
        answer = self.dataset("hub:owner/absent", server.url, tmp_path)
        assert "owner/absent: not found; check the name and the revision" in answer
        answer = self.dataset("hub:owner/rows/other.csv", server.url, tmp_path)
        assert answer.startswith("DataError data.source: hub:owner/rows has these tables: ")

    def test_unreachable_dataset_is_named(self, tmp_path: Path) -> None:
        answer = self.dataset("hub:owner/rows", f"http://127.0.0.1:{closed_port()}", tmp_path)
        assert answer.startswith("ArtifactError") and "the hub cannot be reached" in answer


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_environment_names_the_server(tmp_path: Path) -> None:
    environment = hub_environment("http://127.0.0.1:1", tmp_path)
    assert environment["HF_ENDPOINT"] == "http://127.0.0.1:1"
    assert environment["PATH"] == os.environ["PATH"]
