# Answers lines on stdin with mixsqp fits of one matrix, so that they can be timed in turns with other solvers.
#
#     Rscript mixsqp.R LOGP N K WEIGHTS
#
# LOGP and WEIGHTS are files of doubles: log-likelihoods N x K by column, and N example weights. First line out:
# "ready VERSIONS". To each line "default" or "tightest" the answer is "SECONDS ITERATIONS w1 ... wK" or "error TEXT".
# The time is that of mixsqp alone, without reading and writing.

library(mixsqp)
given <- commandArgs(trailingOnly = TRUE)
n <- as.integer(given[2])
k <- as.integer(given[3])
logp <- matrix(readBin(given[1], "double", n * k), n, k)
v <- readBin(given[4], "double", n)
settings <- list(
  default = list(verbose = FALSE),
  tightest = list(verbose = FALSE, tol.svd = 0, eps = 1e-15, convtol.sqp = 1e-12, maxiter.sqp = 1000)
)

answer <- function(...) {
  cat(..., "\n", sep = "")
  flush(stdout())
}

answer("ready R ", as.character(getRversion()), ", mixsqp ", as.character(packageVersion("mixsqp")),
       ", BLAS ", extSoftVersion()[["BLAS"]])
requests <- file("stdin", "r")
while (length(request <- readLines(requests, 1)) > 0) {
  invisible(gc())
  line <- tryCatch({
    start <- Sys.time()
    fit <- suppressWarnings(mixsqp(logp, v, log = TRUE, control = settings[[request]]))
    seconds <- as.numeric(difftime(Sys.time(), start, units = "secs"))
    paste(sprintf("%.17g", c(seconds, nrow(fit$progress), fit$x)), collapse = " ")
  }, error = function(e) paste("error", gsub("\n", " ", conditionMessage(e))))
  answer(line)
}
