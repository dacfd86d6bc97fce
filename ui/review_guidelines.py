"""The guidelines for readers, one click away; docs/review.md says more."""

GUIDELINES = """
**What you are asked.** Does this note describe this image, and is the label right? You judge the pair, not the patient's
treatment and not the computer.

| Verdict | Say so when | For example |
|---|---|---|
| **Pair fits** | the note could be about this image | Note: "large cup, inferior notch". Image: both are there. |
| **Wrong note** | the note describes something else | Note: "healthy rim, C/D 0.2". Image: a cup that fills the disc. |
| **Wrong label** | image and note contradict the label | Both speak for glaucoma; the label is "no glaucoma". |
| **Uninformative** | nothing in the note can be checked on the image | "Patient rescheduled by telephone." |
| **Unusable image** | the image cannot be judged by anybody | Out of focus, black, or the disc is cut off. |
| **Unsure** | you looked twice and still cannot tell | A borderline cup and a vague note. |

**When several apply**, take the first that does: unusable image, wrong note, wrong label, uninformative.

**A small flaw is no wrong note.** A wrong digit, a missing finding, or the other eye's value beside this eye's is a pair
that fits; put it in the comment.

**Many pairs here are ordinary ones.** The page looks the same for all of them on purpose.

**Comments** are stored with your verdict: write no names, dates of birth or numbers of patients.

**The map** shows which regions the model uses; they may be the wrong ones. Judge first, then open it.
"""

ABOUT_MAP = (
    "Orange regions raise the model's similarity of this image and this note. So do words with a positive effect; words "
    "with a negative one lower it. The map shows what the model uses, not what is right. Regions: integrated gradients "
    "from a blurred copy of the image. Words: the similarity lost when a neutral word replaces each.",
    r"\text{heat}_p = \Big[(x_p-\tilde x_p)\int_0^1 \frac{\partial s}{\partial x_p}"
    r"\big(\tilde x+a\,(x-\tilde x)\big)\,da\Big]_+",
)

NO_AUTHENTICATION = "The name signs your verdicts. It is no authentication: anyone at this computer can type any name."
