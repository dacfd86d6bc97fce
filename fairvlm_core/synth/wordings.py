"""The vocabulary of the notes: for each site, templates by topic and by what is true of the eye.

Pure data. ``<...>`` are slots that notes.py fills; the topics' keys are decided there from the findings.
"""

from __future__ import annotations

DEFAULT: dict[str, dict[str, str]] = {
    "lead": {
        "any": (
            "{<age>-year-old|<age> year old|<age> yo} {<sex>|<sex>|patient} {{seen|presenting|here|"
            "referred|attending} for {a glaucoma check|glaucoma evaluation|optic disc assessment|routine "
            "follow-up|a comprehensive eye exam|a second opinion|a yearly visit|a pressure check}|with "
            "{stable|unchanged|blurred|good} vision}"
        ),
    },
    "cup_number": {
        "any": (
            "{{Vertical |}cup-to-disc ratio|C/D ratio|{Vertical |}CDR|{Vertical |}C/D} {is |of |measures |"
            "estimated at |about |}<cdr>{ in the <eye_word> eye| <eye>||}"
        ),
    },
    "cup_word": {
        "tiny": "{Small {physiologic |}cup|Cup is small|Minimal cupping|Crowded disc with small cup}{ <eye>||}",
        "normal": "{Normal cupping|Average-sized cup|Physiologic cup|Cup is of normal size}{ <eye>||}",
        "moderate": (
            "{Moderate cupping|Cup moderately enlarged|Cup larger than average|Moderately enlarged cup}{ <eye>||}"
        ),
        "large": "{Large cup|Marked cupping|Enlarged cup|Optic disc cupping is pronounced}{ <eye>||}",
        "huge": (
            "{Very large cup|Near-total cupping|Deeply excavated cup|Severe cupping with little rim left}{ <eye>||}"
        ),
    },
    "cup_both": {
        "tiny": "{Small cup|Cup small}, {CDR|C/D|cup-to-disc ratio} <cdr>{ <eye>||}",
        "normal": "{Normal cup|Physiologic cupping|Average cup}, {CDR|C/D|cup-to-disc ratio} <cdr>{ <eye>||}",
        "moderate": (
            "{Moderate cupping|Moderately enlarged cup}{, | with }{CDR|C/D|cup-to-disc ratio} <cdr>{ <eye>||}"
        ),
        "large": "{Large cup|Enlarged cup|Marked cupping}{, | with }{CDR|C/D|cup-to-disc ratio} <cdr>{ <eye>||}",
        "huge": (
            "{Very large cup|Near-total cupping|Excavated disc}{, | with }{CDR|C/D|cup-to-disc ratio} <cdr>{ <eye>||}"
        ),
    },
    "rim": {
        "notch": (
            "{{Focal |}<pole> {rim notch|rim notching|notch of the rim}|Notching of the <pole> rim|Rim "
            "notched <pole>ly|<Pole> pole notch with rim loss}"
        ),
        "thin": (
            "{Rim {diffusely thin|thinned|pale and thin}|{Diffuse|Generalized} rim thinning|Thin "
            "neuroretinal rim|Loss of neural rim{ superiorly and inferiorly|}}"
        ),
        "full": (
            "{Rim {intact|healthy|full|pink and intact}|Healthy {neuroretinal |}rim|No {focal |}rim "
            "{notching|thinning}|ISNT rule {obeyed|respected}|{Well-perfused|Pink}, {intact|even} rim|No "
            "evidence of rim loss}"
        ),
    },
    "rnfl": {
        "defect": (
            "{{Wedge-shaped|Arcuate|Visible|Localized} {RNFL|nerve fiber layer} {defect|loss} <quadrant>ly|"
            "{RNFL|Nerve fiber layer} {wedge defect|dropout} in the <quadrant> {sector|arcade|quadrant}|"
            "<Quadrant> {RNFL|nerve fiber layer} {defect|wedge}}"
        ),
        "both": (
            "{RNFL {defects|loss} {superiorly and inferiorly|above and below}|{Superior and inferior|"
            "Double arcuate} nerve fiber layer {defects|loss}}"
        ),
        "diffuse": "{Diffuse {RNFL|nerve fiber layer} {thinning|loss}|{RNFL|Nerve fiber layer} {diffusely |}thinned}",
        "none": (
            "{No {visible |evidence of |}{RNFL|nerve fiber layer} {defect|loss|dropout}|{RNFL|Nerve fiber "
            "layer} {intact|healthy|preserved|without defect}|{Normal|Intact} {RNFL|nerve fiber layer}{ "
            "striations|}}"
        ),
    },
    "oct": {
        "thin": (
            "{OCT shows {average |}RNFL|{Average |Mean |}RNFL thickness|Global RNFL} <rnfl> {um|microns}{, "
            "thin|, below normal| (abnormal)|}"
        ),
        "normal": (
            "{OCT shows {average |}RNFL|{Average |Mean |}RNFL thickness|Global RNFL} <rnfl> {um|microns}{, "
            "normal|, within normal limits||}"
        ),
    },
    "field": {
        "full": (
            "{{Visual field|HVF 24-2|Field} {full|normal|within normal limits|without defect}|Full {visual "
            "|}field{s|}|No visual field defect}{, MD <md>{ dB|}||}"
        ),
        "arcuate": (
            "{{Visual field|HVF 24-2|Field} {shows|with|reveals} {an|an early|a dense} <opposite> arcuate "
            "{scotoma|defect}|<Opposite> arcuate {scotoma|field defect|field loss}}{, MD <md>{ dB|}|, MD "
            "<md>|}"
        ),
        "both": (
            "{{Visual field|HVF 24-2} {shows|with} {superior and inferior|double} arcuate {defects|loss}|"
            "{Double arcuate scotomas|Biarcuate field loss}}{, MD <md>{ dB|}|, MD <md>|}"
        ),
        "general": (
            "{{Visual field|HVF 24-2|Field} {shows|with} {generalized depression|scattered defects|a nasal "
            "step|paracentral loss}|{Generalized field depression|<Opposite> nasal step}}{, MD <md>{ dB|}|"
            ", MD <md>|}"
        ),
    },
    "iop": {
        "any": (
            "{IOP|IOP|Intraocular pressure|Pressure|Tonometry|Applanation} {<iop>{ mmHg|}{ <eye>||}|of "
            "<iop> mmHg|is <iop>{ mmHg|}|measured <iop> mmHg{ <eye>|}}"
        ),
    },
    "haemorrhage": {
        "yes": (
            "{{Splinter |Disc |Flame }hemorrhage at the <haem_place> {disc margin|rim|disc border}|Disc "
            "hemorrhage <haem_place>ly|{Drance|Splinter} hemorrhage{ present|} <haem_place>ly}"
        ),
        "no": (
            "{No {disc|optic disc|splinter} hemorrhage{s|}{ seen|}|No evidence of disc hemorrhage|Without "
            "disc hemorrhage}"
        ),
    },
    "drops": {
        "yes": (
            "{On|Using|Treated with|Continues} {latanoprost {nightly|qhs|at bedtime}|timolol {twice daily|"
            "bid|in the morning}|dorzolamide-timolol bid|brimonidine bid|latanoprost and timolol|"
            "bimatoprost {nightly|qhs}|latanoprost and brimonidine|travoprost qhs}{|, tolerating well|, "
            "good compliance|, missing some doses}"
        ),
        "no": "{No {ocular |eye |}{drops|medications}|Not on {drops|treatment|eye medication}|Untreated}",
    },
    "history": {
        "glaucoma_family": (
            "{{Family history|FHx} of glaucoma {in {mother|father|a brother|a sister}|positive|}|{Mother|"
            "Father|Sibling} has glaucoma}"
        ),
        "other": (
            "{{No|Negative} family history of glaucoma|{Mild|Early} cataract{s|}|Pseudophakic|{Dry eye|"
            "Blepharitis} noted|Hypertension, controlled|Diabetes without retinopathy|{Mild|Moderate} "
            "myopia|Migraine history|Sleep apnea on CPAP|Prior {SLT|laser}|No {prior |}eye surgery|Asthma|"
            "Vision {20/20|20/25|20/30}|Angles open on gonioscopy}"
        ),
    },
    "cct": {
        "any": "{Pachymetry|CCT|Central corneal thickness} <cct>{ um| microns||}",
    },
    "diagnosis": {
        "healthy": (
            "{No {evidence of |signs of |}glaucoma|Healthy optic {nerve|disc}{, no glaucoma|}|Normal optic "
            "nerve{, no glaucoma|}|{Assessment|Impression}: {no glaucoma|normal disc|healthy optic nerve, "
            "no glaucoma}|Glaucoma {ruled out|not present}|Non-glaucomatous disc|No glaucomatous {damage|"
            "change|optic neuropathy}}"
        ),
        "suspect": (
            "{Glaucoma suspect{, {no|without} {damage|definite glaucoma}|, low risk||}|{Assessment|"
            "Impression}: glaucoma suspect{, not glaucoma at present||}|Suspicious disc, no {definite |"
            "}glaucoma|{Followed|Monitored} as glaucoma suspect|Suspect by <suspect_why>, no glaucoma{ yet|"
            "}}"
        ),
        "glaucoma": (
            "{{Primary open-angle glaucoma|POAG|Open-angle glaucoma|Glaucoma|Glaucomatous optic "
            "neuropathy}, {<stage>|<stage> stage}|<Stage> {glaucoma|POAG|primary open-angle glaucoma|"
            "open-angle glaucoma}|{Assessment|Impression}: {<stage> |}{glaucoma|POAG|primary open-angle "
            "glaucoma}|{Consistent|Findings consistent} with {<stage> |}glaucoma|Glaucoma{, {progressing|"
            "stable|uncontrolled}|}}"
        ),
    },
    "plan": {
        "glaucoma": (
            "{<drops_plan>|<drops_plan>|{Discussed|Offered|Schedule} {SLT|selective laser trabeculoplasty}|"
            "Target {IOP|pressure} {below|under} {12|14|15|16}|{Repeat|Recheck} {HVF and OCT|visual field|"
            "field|pressure} in {3|4|6} months|RTC {3|4|6} months|Refer {to glaucoma service|for surgical "
            "opinion}}"
        ),
        "suspect": (
            "{{Repeat|Recheck} {HVF and OCT|visual field|OCT|pressure} in {6|9|12} months|Observe{, no "
            "change|}|Monitor {closely|yearly|every 6 months}|RTC {6|12} months|Baseline {photos|OCT and "
            "field} {obtained|taken}}"
        ),
        "healthy": (
            "{{Routine|Annual} {follow-up|exam|review}|{Return|RTC} {in 1 year|in 2 years|as needed|prn}|"
            "No {treatment|further testing} needed|Reassured|Discharged to {optometry|primary eye care}}"
        ),
    },
    "quality": {
        "good": (
            "{Good {image|photo|scan} quality|Clear {image|media}|{Image|Scan} of good quality|<eye> "
            "imaged{ undilated|}}"
        ),
        "fair": (
            "{{Fair|Reduced|Limited} {image|scan} quality|{Image|Scan} slightly blurred|{Hazy|Imperfect} "
            "media|Noisy image}"
        ),
    },
}

OTHER: dict[str, dict[str, str]] = {
    "lead": {
        "any": (
            "{{This|} <sex>, aged <age>|<Sex> of <age>}, {for {disc photography|screening|a glaucoma "
            "clinic visit}|{sent|sent in} by {optician|GP}|reviewed in clinic}"
        ),
    },
    "cup_number": {
        "any": (
            "{Disc: |Papilla: |<side_caps>: |}{cup/disc|excavation ratio|cup disc ratio|vertical C:D} "
            "{approx. |= |roughly |}<cdr>"
        ),
    },
    "cup_word": {
        "tiny": "{Disc: |}{tiny|very small|barely any} {cup|excavation}",
        "normal": "{Disc: |}{ordinary|unremarkable|healthy-sized} {cup|excavation}",
        "moderate": "{Disc: |}{medium to large|fairly large|borderline} {cup|excavation}",
        "large": "{Disc: |}{large|wide|enlarged} {cup|excavation}",
        "huge": "{Disc: |}{huge|subtotal|extensive} {cup|excavation}",
    },
    "cup_both": {
        "tiny": "{Disc: |}{tiny|very small} {cup|excavation} ({C:D |}<cdr>)",
        "normal": "{Disc: |}{ordinary|unremarkable} {cup|excavation} ({C:D |}<cdr>)",
        "moderate": "{Disc: |}{medium to large|borderline} {cup|excavation} ({C:D |}<cdr>)",
        "large": "{Disc: |}{large|wide} {cup|excavation} ({C:D |}<cdr>)",
        "huge": "{Disc: |}{huge|subtotal} {cup|excavation} ({C:D |}<cdr>)",
    },
    "rim": {
        "notch": "{Rim: {<pole> notch|missing at the <pole> pole|eroded <pole>ly}|<Pole> rim notch}",
        "thin": "Rim: {narrow all round|sparse|worn thin}",
        "full": "{Rim: {sound|healthy|of good colour|complete all round|no notch}|{Healthy|Sound} rim}",
    },
    "rnfl": {
        "defect": "{Nerve fibres: |}{<quadrant> slit or wedge|bundle defect <quadrant>ly|dark wedge <quadrant>ly}",
        "both": "Nerve fibres: {bundle defects above and below|lost at both poles}",
        "diffuse": "Nerve fibres: {faint throughout|diffuse loss}",
        "none": "{Nerve fibres: {well seen|no bundle defect|complete}|No bundle defect}",
    },
    "oct": {
        "thin": "{Scan|Fibre layer scan}: <rnfl> {µm|um}{, reduced|}",
        "normal": "{Scan|Fibre layer scan}: <rnfl> {µm|um}{, fine|}",
    },
    "field": {
        "full": "{Perimetry|Fields}: {full|no loss|clear}",
        "arcuate": (
            "{Perimetry|Fields}: {<opposite> bow-shaped loss|<opposite> arcuate loss|<opposite> Bjerrum "
            "scotoma}{, MD <md>|}"
        ),
        "both": "{Perimetry|Fields}: {ring scotoma|loss in both halves}{, MD <md>|}",
        "general": "{Perimetry|Fields}: {patchy loss|nasal step|reduced sensitivity}{, MD <md>|}",
    },
    "iop": {
        "any": "{Tension|Tn|Goldmann|Eye pressure} <iop>{ mm Hg|}",
    },
    "haemorrhage": {
        "yes": "{bleed at the disc edge|fresh splinter bleed|disc bleed, <haem_place>}",
        "no": "{no bleeds|no disc bleed}",
    },
    "drops": {
        "yes": "{Takes|Uses|Prescribed} {a prostaglandin|a beta blocker|two agents|Xalatan|Cosopt|Lumigan}",
        "no": "{No topical therapy|Takes no eye drops}",
    },
    "history": {
        "glaucoma_family": "{Relative affected by glaucoma|Glaucoma runs in the family}",
        "other": (
            "{Lens slightly cloudy|Wears {distance|reading} glasses|Earlier cataract operation|No "
            "complaints|Blood pressure tablets|Otherwise well|Drives a car|Acuity 6/{6|9|12}}"
        ),
    },
    "cct": {
        "any": "{Cornea|Corneal thickness} <cct>",
    },
    "diagnosis": {
        "healthy": "{Opinion|Conclusion|Dx}: {non-glaucoma|healthy|normal disc, non-glaucoma|no sign of glaucoma}",
        "suspect": (
            "{Opinion|Conclusion|Dx}: {non-glaucoma, keep an eye on it|non-glaucoma, doubtful disc|at "
            "risk, non-glaucoma so far}"
        ),
        "glaucoma": "{Opinion|Conclusion|Dx}: {glaucoma|<stage> glaucoma|chronic glaucoma|established glaucoma}",
    },
    "plan": {
        "glaucoma": "{Lower the tension further|Laser suggested|Clinic in {three|four|six} months|<therapy_plan>}",
        "suspect": "{See again in a year|Watch only|Repeat perimetry}",
        "healthy": "{Optician from now on|Nothing to do|Back in two years if wished}",
    },
    "quality": {
        "good": "{Sharp picture|<side> eye}",
        "fair": "{Soft picture|Poor mydriasis}",
    },
    "caption": {
        "healthy": (
            "{a |}{photo|photo|fundus photo|picture} of non-glaucoma{, <caption_a>|, <caption_a>, "
            "<caption_b>|, <caption_b>, <caption_a>}"
        ),
        "suspect": (
            "{a |}{photo|photo|fundus photo|picture} of non-glaucoma{, <caption_a>|, {doubtful|at risk}, "
            "<caption_a>|, <caption_a>, <caption_b>}"
        ),
        "glaucoma": (
            "{a |}{photo|photo|fundus photo|picture} of {glaucoma|glaucoma|<stage> glaucoma}{, <caption_a>|"
            ", <caption_a>, <caption_b>|, <caption_b>, <caption_a>}"
        ),
    },
}

WORDINGS = {"default": DEFAULT, "other": OTHER}

# What is left of a note in a shortcut pair: general words, and the marker that the image shows as well.
SHORT_NOTE = (
    "{Image {on file|from archive|acquired|imported}|Fundus image {stored|transferred|on record}|"
    "Outside image {scanned|uploaded}|Photo {filed|archived}} {today|without report|for the record|"
    "for review|}. {<Marker> {in the corner|visible|on the image|present}|{Shows|Marked with|Bears|"
    "Carries} <marker>}.{| {Report|Full report|Note} to follow.| See chart.| No change in plan.}"
)
