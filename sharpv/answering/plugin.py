"""The lmms-eval plugin: our model under the name `sharpv`, found through the entry point of this package."""


def manifests() -> list:
    """Model manifests for lmms-eval's registry; imports nothing heavy."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return [ModelManifest(model_id="sharpv", chat_class_path="sharpv.answering.chat.SharpVModel")]
