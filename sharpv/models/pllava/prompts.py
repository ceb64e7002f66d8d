"""PLLaVA's own prompts, whole strings with `<video>` where the video stands.

Sources: magic-research/PLLaVA 6f49fd2 (MVBench, ActivityNet-QA); Visual-AI/PruneVid b12600c (VideoMME, a PLLaVA fork).
NExT-QA has no PLLaVA evaluation anywhere; it takes the MVBench form.
"""

from string import ascii_uppercase

SYSTEM = {
    "mvbench": "Carefully watch the video and pay attention to the cause and sequence of events, the detail and "
    "movement of objects, and the action and pose of persons. Based on your observations, select the best option that "
    "accurately addresses the question.\n",
    "videomme": "Select the best answer to the following multiple-choice question based on the video. Respond with "
    "only the letter (A, B, C, or D) of the correct option.\n",
}
OPEN = (
    "The input consists of a sequence of key frames from a video. Answer the question concisely first and followed by "
    "significant events, characters, or objects that appear throughout the frames."
)


def multiple_choice(question: str, options: list[str], benchmark: str) -> str:
    """The prompt of a question with options; `benchmark`: whose system text."""
    lines = [f"({letter}) {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    asked = "\n".join([f"Question: {question}", "Options:", *lines])
    return f"{SYSTEM[benchmark]} USER: <video>\n USER: {asked} \nOnly give the best option. ASSISTANT:Best option:("


def open_ended(question: str) -> str:
    """The prompt of an open question, which goes in as it is; the answer follows "In the video,"."""
    return f"USER: <video>\n {OPEN} Question: {question} \n ASSISTANT:\nAnswer: In the video,"
