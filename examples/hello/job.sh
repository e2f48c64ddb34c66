#!/bin/bash
#SBATCH --job-name=hello
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --time=00:05:00

# Once, on the login node:  pybundle pack env/
srun env/bin/python -m pybundle run --bundle env.pybundle hello.py
