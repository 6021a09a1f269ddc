"""What planted submissions share: pieces of their text, and the sentence that a refusal ends in."""

META = "name: {}\ndescription: planted\nauthors: [a]\nlicence: MIT\ntuning: self\ndefaults: {{lr: 0.1}}\n{}"

TO_ALL = """
def to_all(data):
    "Write to whatever is open."
    for file in range(3, 20):
        try:
            os.write(file, data)
        except OSError:
            pass
"""

ALONE = "a submission is exported, and answers control calls, without data, network, other programs, or files other"
