() => {
  const rgb = text => { const n = text.match(/[\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1] }
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat([1])
  const part = x => { x /= 255; return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4 }
  const light = c => 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2])
  const faint = []
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), element = walk.currentNode.parentElement
    if (!text || element.ariaHidden === "true" || ["SCRIPT", "STYLE"].includes(element.tagName) || element.closest("svg .bars, svg .barlayer")) continue
    if (element.closest(":disabled, [aria-disabled=true], [data-testid=stSliderThumbValue]")) continue
    const box = element.getBoundingClientRect(), style = getComputedStyle(element)
    if (box.width < 2 || box.height < 2 || style.visibility === "hidden") continue
    let opacity = 1
    const backs = []
    for (let at = element; at; at = at.parentElement) {
      const of = getComputedStyle(at)
      opacity *= Number(of.opacity)
      const colour = rgb(of.backgroundColor)
      if (colour[3] > 0) backs.push(colour)
    }
    if (opacity < 0.05) continue
    const back = backs.reverse().reduce((below, colour) => over(colour, below), [255, 255, 255, 1])
    const ink = rgb(element.closest("svg") && style.fill !== "none" ? style.fill : style.color)
    ink[3] *= opacity
    const [a, b] = [light(over(ink, back)), light(back)]
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    if (contrast < 4.5) faint.push(`${text.slice(0, 40)} (${contrast.toFixed(2)})`)
  }
  return faint
}
