"""Headlines without a classifier: words of finance that lean one way, counted, and turned round where they are denied.

It knows a few hundred word forms and no grammar; answers name it, so that nobody takes it for more. The lists are our
own. With ``p`` words up and ``n`` down the answer is positive p, negative n, neutral 1, each over p + n + 1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

from fusiontrade.inference.contract import ModelReference
from fusiontrade.inference.texts import TextError, TextScore

__all__ = ["Lexicon"]

_UP_WORDS = """
accelerate accelerated accelerates accretive advance advanced advances approval approved approves beat beats
boom booming boost boosted boosts breakthrough bullish buoyant buyback climb climbed climbs confident dovish
easing exceed exceeded exceeds expand expanded expands expansion gain gained gains grew grow growing grows
growth higher improve improved improvement improves jump jumped jumps milestone optimism optimistic outpace
outpaced outperform outperformed outperforms peak profit profitable profits progress rallied rallies rally
rebound rebounded rebounds record recover recovered recovers recovery resilient rise risen rises rising robust
rose skyrocket soar soared soaring soars stimulus strength strengthen strengthened strengthens strong stronger
strongest succeed success successful surge surged surges surging surpass surpassed tailwind topped tops upbeat
upgrade upgraded upgrades upside upturn win wins won
"""

_DOWN_WORDS = """
bankrupt bankruptcy bearish collapse collapsed collapses concern concerns contract contracted contraction crash
crashed crashes crisis cut cuts cutting decline declined declines declining decrease decreased decreases default
defaults deficit delay delayed delays deteriorate deteriorated disappoint disappointed disappointing disappoints
dip dipped dips downgrade downgraded downgrades downturn downside drop dropped drops fall fallen falling falls
fear fears fell fined fraud halt halted halts hawkish headwind headwinds impairment investigation lawsuit layoff
layoffs loses losing loss losses lost low lower lowered lowers lowest miss missed misses negative outage panic
pessimism pessimistic plummet plummeted plummets plunge plunged plunges probe recall recalled recession resigns
sank shortage shortfall shrink shrinks shrank sink sinks slash slashed slashes slid slide slides slip slipped
slips slow slowdown slowed slower slowing slows slump slumped slumps stagflation strike strikes struggle
struggled struggles suspended tariff tariffs tightening tumble tumbled tumbles turmoil underperform
underperformed unemployment warn warned warning warns weak weaken weakened weakens weaker weakness widened
widens worse worsen worsened worst writedown
"""

_DENIALS_WORDS = """
no not never without neither nor cannot fails failed fail isn't wasn't doesn't didn't won't can't hardly
"""

_UP, _DOWN, _DENIALS = (frozenset(words.split()) for words in (_UP_WORDS, _DOWN_WORDS, _DENIALS_WORDS))
_REACH = 3  # words after a denial that it turns round
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_LONGEST = 20_000  # characters of a text that are read


class Lexicon:
    """The scorer where no classifier was brought in."""

    @property
    def reference(self) -> ModelReference:
        """What answers name it by; the version changes with its words."""
        words = "\n".join((*sorted(_UP), "", *sorted(_DOWN), "", *sorted(_DENIALS)))
        return ModelReference(id="finance-lexicon", version=hashlib.sha256(words.encode()).hexdigest()[:12])

    def scores(self, texts: Sequence[str]) -> list[TextScore]:
        """Return the mood of each text, in order; a text without English letters is an error of its own."""
        read = [text.strip() for text in texts]
        return [_score(text[:_LONGEST], truncated=len(text) > _LONGEST) for text in read]


def _score(text: str, *, truncated: bool) -> TextScore:
    words = _WORD.findall(text.lower().replace("\u2019", "'"))
    if not words:
        told = "there is no word that the lexicon could know" if text else "there is no text to score"
        return TextScore(error=TextError(code="empty", detail=told))
    leans = list(_leans(words))
    up, down = leans.count(1), leans.count(-1)
    whole = up + down + 1
    return TextScore(
        positive=up / whole,
        negative=down / whole,
        neutral=1 / whole,
        score=(up - down) / whole,
        truncated=truncated,
    )


def _leans(words: Sequence[str]) -> Iterator[int]:
    """Yield 1 or −1 for each word that leans, turned round within the reach of a denial."""
    denied_until = -1
    for place, word in enumerate(words):
        if word in _DENIALS:
            denied_until = place + _REACH
        elif lean := (word in _UP) - (word in _DOWN):
            yield -lean if place <= denied_until else lean
