// Formulas: only what the site marks as one
window.MathJax = {
  tex: {inlineMath: [['\\(', '\\)']], displayMath: [['\\[', '\\]']]},
  options: {ignoreHtmlClass: '.*', processHtmlClass: 'arithmatex', enableMenu: false}
}
