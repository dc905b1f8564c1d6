echo "worker: $(wc -l < /app/MANIFEST) modules"
