"""Our model among lmms-eval's, and the tiny tasks that it answers."""

from lmms_eval.models import MODEL_REGISTRY_V2

from sharpv import paths
from sharpv.answering import plugin
from sharpv.tiny.benchmarks import write_benchmarks

TASK = "tiny_mvbench_object_shape"


def register_model():
    paths.go_offline()
    for manifest in plugin.manifests():
        MODEL_REGISTRY_V2.register_manifest(manifest, overwrite=True)


def register():
    register_model()
    write_benchmarks(paths.tiny_data())
